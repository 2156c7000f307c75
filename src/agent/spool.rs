//! What a probe keeps on disk until the CMDB has it.

pub mod format;
