//! An inquiry answered: asks the graph what it needs, and concludes.

use std::sync::Arc;

use anyhow::Result;
use jiff::Timestamp;

use crate::cmdb::Cmdb;
use crate::graph::search::Question;
use crate::labels::Labels;
use crate::look;
use crate::recall::Window;
use crate::study::{Asking, Inquiry, Outcome};

/// Answers an inquiry as of `now`.
pub async fn ask(
    cmdb: &Cmdb,
    inquiry: Inquiry,
    labels: &Arc<Labels>,
    now: Timestamp,
) -> Result<Outcome> {
    let questions: Vec<Question> = inquiry
        .questions()
        .into_iter()
        .map(|asking| {
            let Asking { window, depth, ways } = asking;
            look::question(inquiry.selectors.clone(), window, depth, ways, Arc::clone(labels))
        })
        .collect();
    // All are asked of the same hosts, so that they can be compared.
    let window = questions.iter().map(|question| question.window).reduce(Window::hull);
    let selectors = questions.first().map_or(&[][..], |question| &question.selectors);
    let meant = look::meant(cmdb, selectors, &window.unwrap_or_default(), labels).await?;
    let mut answers = Vec::new();
    for question in questions {
        answers.push(look::look_from(cmdb, question, meant.clone(), now).await?);
    }
    Ok(inquiry.conclude(answers))
}
