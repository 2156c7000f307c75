//! Every output, by its bytes.
