//! Searching with a CMDB that is a list of records.
