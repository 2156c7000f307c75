//! The file of labels, read again when it has changed.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use tracing::{info, warn};

use crate::cli;
use crate::daemon::lock;
use crate::labels::Labels;

/// What the file said when it was last right.
#[derive(Debug, Default)]
pub(crate) struct LabelsFile {
    path: Option<PathBuf>,
    read: Mutex<(Option<SystemTime>, Arc<Labels>)>,
}

impl LabelsFile {
    /// Nothing is read yet.
    pub(crate) fn new(path: Option<PathBuf>) -> LabelsFile {
        LabelsFile { path, read: Mutex::default() }
    }

    /// What it says now. One that became wrong stays as it was, and is told of
    /// once.
    pub(crate) fn now(&self) -> Arc<Labels> {
        let Some(path) = &self.path else { return Arc::default() };
        let written = path.metadata().and_then(|about| about.modified()).ok();
        let mut read = lock(&self.read);
        if written != read.0 {
            read.0 = written;
            match tokio::task::block_in_place(|| cli::labels::read(path)) {
                Ok(labels) => {
                    read.1 = Arc::new(labels);
                    info!("the labels '{}' were read", path.display());
                }
                Err(error) => warn!("the labels stay as they were: {error}"),
            }
        }
        Arc::clone(&read.1)
    }
}
