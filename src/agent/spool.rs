//! What a probe keeps on disk until the CMDB has it.
//!
//! The spool is a journal of what the tally has not had acknowledged, not a
//! queue of messages. While the CMDB cannot be written, what changed since the
//! last time is appended and synced; when the journal is larger than twice
//! what it says, it is written anew; when the CMDB has all of it, it is
//! emptied. What earlier runs left, and what had to leave memory, is the
//! backlog: it is told after what is alive, segment by segment.
//!
//! Files are read and written by a thread of their own (`disk`); delivery
//! waits for it `LIMIT` at most, and goes on without it.

pub(crate) mod directory;
pub(crate) mod disk;
pub(crate) mod figures;
pub mod format;
pub(crate) mod payload;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::oneshot;

use crate::agent::spool::disk::{Disk, Job, Reply};
use crate::agent::spool::figures::Figures;

/// Longest wait of delivery for the disk.
pub(crate) const LIMIT: Duration = Duration::from_secs(5);

/// Jobs that may wait while one is done: one that is waited for, and some that
/// nobody waits for.
const JOBS: usize = 4;

type Asked = (Job, oneshot::Sender<Result<Reply>>);

/// Where the spool is, and how large it may become.
#[derive(Clone, Debug)]
pub struct SpoolPlan {
    /// Its directory.
    pub path: PathBuf,
    /// Most bytes of all its segments.
    pub limit: u64,
}

/// The way to the disk's thread.
#[derive(Debug)]
pub(crate) struct Spool {
    jobs: SyncSender<Asked>,
}

/// For those who need not wait for the disk.
#[derive(Clone, Debug)]
pub(crate) struct Gauge {
    jobs: SyncSender<Asked>,
    emptied: Arc<AtomicU64>,
    /// What there is to say of it.
    pub(crate) figures: Arc<Figures>,
}

impl Spool {
    /// Starts the thread. It opens nothing before it is asked to.
    pub(crate) fn start(plan: &SpoolPlan, who: (i64, i64)) -> Result<(Spool, Gauge)> {
        let (jobs, asked) = mpsc::sync_channel::<Asked>(JOBS);
        let figures = Arc::new(Figures::default());
        let emptied = Arc::new(AtomicU64::new(0));
        let mut disk = Disk::new(
            plan.path.clone(),
            plan.limit,
            who,
            Arc::clone(&figures),
            Arc::clone(&emptied),
        );
        // It ends when nobody can ask it any more. It is not waited for: the
        // disk may hang.
        let work = move || {
            for (job, answer) in asked {
                let done = disk.work(job);
                answer.send(done).ok();
            }
        };
        std::thread::Builder::new()
            .name("spool".into())
            .spawn(work)
            .context("start the spool's thread")?;
        let gauge = Gauge { jobs: jobs.clone(), emptied, figures };
        Ok((Spool { jobs }, gauge))
    }

    /// Has something done, however long the disk takes. Whoever cannot wait
    /// that long stops waiting; it is done all the same.
    pub(crate) async fn ask(&mut self, job: Job) -> Result<Reply> {
        let (answer, answered) = oneshot::channel();
        self.jobs.try_send((job, answer)).ok().context("the disk does not answer")?;
        answered.await.context("the spool's thread has ended")?
    }
}

impl Gauge {
    /// The CMDB has all that is journaled: the journal is removed before
    /// anything else is done.
    pub(crate) fn empty(&self) {
        self.emptied.fetch_add(1, Ordering::AcqRel);
        self.figures.journal_bytes.set(0);
        self.jobs.try_send((Job::Tidy, oneshot::channel().0)).ok();
    }

    pub(crate) fn has_journal(&self) -> bool {
        self.figures.journal_bytes.get() > 0
    }

    pub(crate) fn has_backlog(&self) -> bool {
        self.figures.backlog_files.get() > 0
    }
}

#[cfg(test)]
pub(crate) mod tests;
