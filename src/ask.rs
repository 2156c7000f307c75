//! An inquiry answered: asks the graph what it needs, and concludes.

use std::sync::Arc;

use anyhow::Result;
use jiff::Timestamp;

use crate::cmdb::Cmdb;
use crate::labels::Labels;
use crate::look;
use crate::study::{Inquiry, Outcome};

/// Answers an inquiry as of `now`.
pub async fn ask(
    cmdb: &Cmdb,
    inquiry: Inquiry,
    labels: &Arc<Labels>,
    now: Timestamp,
) -> Result<Outcome> {
    let mut answers = Vec::new();
    for asking in inquiry.questions() {
        let selectors = inquiry.selectors.clone();
        let question =
            look::question(selectors, asking.window, asking.depth, asking.ways, Arc::clone(labels));
        answers.push(look::look(cmdb, question, now).await?);
    }
    Ok(inquiry.conclude(answers))
}
