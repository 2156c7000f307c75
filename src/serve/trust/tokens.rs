//! The tokens that live, as the CMDB said last. It must not know what they are
//! good for.
//!
//! A collector reads all of them when their mark in the CMDB has changed, and
//! asks for the mark at every check. So a known token costs no query, what is
//! revoked is refused after the next check, and strangers who guess cost four
//! queries a second together, however many they are.

use std::sync::Mutex;
use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, sleep_until};

use crate::cmdb::enrol::{Holder, Holders};
use crate::cmdb::token::{Token, TokenHash};
use crate::daemon::lock;
use crate::serve::State;

/// Between two questions for the sake of tokens that are not known: one that
/// was made a moment ago is good at once.
const PAUSE: Duration = Duration::from_millis(250);

/// After how long without the CMDB's word tokens are believed no more: some of
/// them may be revoked by now.
const STALE: Duration = Duration::from_secs(30);

/// The tokens.
#[derive(Default)]
pub(crate) struct Tokens {
    known: Mutex<Known>,
    /// Held by the one who asks the CMDB; the others wait for the answer.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    mark: Option<i64>,
    live: Holders,
    /// When the last question was asked that was answered.
    asked: Option<Instant>,
}

impl Tokens {
    /// Asks the CMDB, which also tells whether it can be used.
    pub(crate) async fn refresh(&self, state: &State) -> Result<()> {
        let _turn = self.asking.lock().await;
        self.ask(state).await
    }

    async fn ask(&self, state: &State) -> Result<()> {
        let cmdb = state.cmdb()?;
        state.metrics.checks.add(1);
        let began = Instant::now();
        let mark = lock(&self.known).mark;
        let pulse = cmdb.pulse(mark).await?;
        let mut known = lock(&self.known);
        known.mark = Some(pulse.mark);
        known.asked = Some(began);
        if let Some(live) = pulse.holders {
            known.live = live;
        }
        Ok(())
    }

    /// What a token is good for, if it lives. `of_old`: for what must work
    /// while the CMDB is away, what was known last will do.
    pub(crate) async fn holder(
        &self,
        state: &State,
        token: &Token,
        of_old: bool,
    ) -> Result<Option<Holder>> {
        let hash = token.hash();
        let arrived = Instant::now();
        if let Some(holder) = self.known(&hash, arrived, of_old) {
            return Ok(Some(holder));
        }
        let _turn = self.asking.lock().await;
        // Who had the turn before may have asked after we came.
        let asked = lock(&self.known).asked;
        if asked.is_none_or(|asked| asked < arrived) {
            if let Some(asked) = asked {
                sleep_until(asked + PAUSE).await;
            }
            self.ask(state).await?;
        }
        Ok(self.known(&hash, arrived, of_old))
    }

    fn known(&self, hash: &TokenHash, now: Instant, of_old: bool) -> Option<Holder> {
        let known = lock(&self.known);
        let fresh = known.asked.is_some_and(|asked| now.duration_since(asked) < STALE);
        known.live.get(hash).filter(|_| fresh || of_old).copied()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        lock(&self.known).live.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recall::Role;

    #[tokio::test]
    async fn what_the_cmdb_has_not_said_for_long_is_believed_no_more() {
        let (hash, asked) = ([7; 32], Instant::now());
        let holder = Holder { role: Role::Read, host: None, expires: None };
        let tokens = Tokens::default();
        assert_eq!(tokens.known(&hash, asked, true), None);
        let live = Holders::from([(hash, holder)]);
        *lock(&tokens.known) = Known { mark: Some(1), live, asked: Some(asked) };
        let known = |after, of_old| tokens.known(&hash, asked + after, of_old);
        assert_eq!(known(STALE - PAUSE, false), Some(holder));
        assert_eq!(known(STALE, false), None);
        assert_eq!(known(STALE, true), Some(holder));
        assert_eq!(tokens.known(&[8; 32], asked, true), None);
    }
}
