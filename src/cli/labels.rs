//! The file of labels, which a user wrote and may have got wrong.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cli::args::LabelsArguments;
use crate::cli::settings::Settings;
use crate::cli::{pick, text};
use crate::labels::Labels;

/// Largest file.
const MAX_BYTES: u64 = 1 << 20;

/// The file that is named, if one is.
pub(crate) fn file(words: LabelsArguments, settings: &Settings) -> Result<Option<PathBuf>, String> {
    let path = |value: &str| text(value).map(PathBuf::from);
    pick(words.labels, "--labels", settings, &["SHAWK_LABELS"], path)
}

/// What is in the file that is named; nothing if none is.
pub(crate) fn labels(words: LabelsArguments, settings: &Settings) -> Result<Arc<Labels>, String> {
    let file = file(words, settings)?;
    Ok(Arc::new(file.as_deref().map(read).transpose()?.unwrap_or_default()))
}

/// Reads a file. The error is one line that names it.
pub fn read(file: &Path) -> Result<Labels, String> {
    let name = file.display();
    let mut text = String::new();
    let read = File::open(file).and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text));
    read.map_err(|error| format!("cannot read the labels '{name}' ({error}); see --labels"))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(format!(
            "the labels '{name}' are more than 1 MiB; merge rules with cidr, or *"
        ));
    }
    Labels::parse(&text).map_err(|error| format!("the labels '{name}': {error}"))
}
