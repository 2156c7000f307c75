//! An inquiry answered: asks the graph what it needs, and concludes.

use std::sync::Arc;

use anyhow::Result;
use jiff::Timestamp;

use crate::cmdb::Cmdb;
use crate::labels::Labels;
use crate::look;
use crate::recall::Window;
use crate::study::{Inquiry, Outcome};

/// Answers an inquiry as of `now`.
pub async fn ask(
    cmdb: &Cmdb,
    inquiry: Inquiry,
    labels: &Arc<Labels>,
    now: Timestamp,
) -> Result<Outcome> {
    let questions = inquiry.questions();
    let window = questions.iter().map(|asking| asking.window).reduce(Window::hull);
    let meant = look::meant(cmdb, &inquiry.selectors, &window.unwrap_or_default()).await?;
    let mut answers = Vec::new();
    for asking in questions {
        let selectors = inquiry.selectors.clone();
        let question =
            look::question(selectors, asking.window, asking.depth, asking.ways, Arc::clone(labels));
        answers.push(look::look_from(cmdb, question, meant.clone(), now).await?);
    }
    Ok(inquiry.conclude(answers))
}
