//! Who takes how much of the room that all share. It must not know what for.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use http_body_util::Full;
use hyper::body::{Body as _, Bytes};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::daemon::lock;
use crate::recall::HostKey;
use crate::serve::reply::{Fixed, Refusal, Reply};

/// Bodies unpacked and decoded at once, of those who share an intake.
const MAX_DECODING: usize = 2;

/// Most bytes of answers that wait for their readers to take them. One that is
/// larger takes all of it.
const MAX_ANSWERS: usize = 256 << 20;

/// Below which an answer is not counted: there are no more of those than
/// connections.
const SMALL: usize = 16 << 10;

/// Where bodies are taken in, of those who wait for nobody but each other.
pub(crate) struct Intake {
    /// Bytes, packed.
    pub(crate) room: Semaphore,
    /// Bodies unpacked and decoded at once.
    pub(crate) decoding: Semaphore,
}

impl Intake {
    pub(crate) fn new(bytes: usize) -> Intake {
        Intake { room: Semaphore::new(bytes), decoding: Semaphore::new(MAX_DECODING) }
    }
}

/// Hosts of whose requests one is being carried out.
#[derive(Default)]
pub(crate) struct Turns(Mutex<HashSet<HostKey>>);

/// One of them.
pub(crate) struct Alone<'a> {
    turns: &'a Turns,
    host: Option<HostKey>,
}

impl Turns {
    /// The turn of one who may report about one host; who may report about any
    /// is believed to take no more than it needs.
    pub(crate) fn of(&self, host: Option<HostKey>) -> Result<Alone<'_>, Refusal> {
        if host.is_some_and(|host| !lock(&self.0).insert(host)) {
            return Err(Refusal::busy("another request of this host is being carried out"));
        }
        Ok(Alone { turns: self, host })
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        if let Some(host) = self.host {
            lock(&self.turns.0).remove(&host);
        }
    }
}

/// Room for answers.
pub(crate) struct Answers(Arc<Semaphore>);

impl Default for Answers {
    fn default() -> Self {
        Answers(Arc::new(Semaphore::new(MAX_ANSWERS)))
    }
}

/// Bytes of an answer, and the room that they take until they are gone.
struct Held {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Answers {
    /// An answer with its room, or that there is none: waiting would keep it.
    pub(crate) fn hold(&self, reply: Reply) -> Result<Reply, Refusal> {
        let size = reply.body().size_hint().exact().and_then(|size| usize::try_from(size).ok());
        let size = size.unwrap_or(MAX_ANSWERS).min(MAX_ANSWERS);
        if size < SMALL || reply.extensions().get::<Fixed>().is_some() {
            return Ok(reply);
        }
        let room = Arc::clone(&self.0).try_acquire_many_owned(size as u32);
        let room = room.map_err(|_| Refusal::busy("too many answers wait for their readers"))?;
        Ok(reply.map(|body| held(body, room)))
    }
}

fn held(body: Full<Bytes>, room: OwnedSemaphorePermit) -> Full<Bytes> {
    let bytes = body.into_inner().unwrap_or_default();
    Full::new(Bytes::from_owner(Held { bytes, _room: room }))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use hyper::{HeaderMap, Method, StatusCode};

    use super::*;
    use crate::serve::{openapi, page, reply};

    #[test]
    fn an_answer_takes_room_until_its_bytes_are_gone() {
        let answers = Answers::default();
        let answer = |size: usize| reply::body(StatusCode::OK, "text/plain", vec![0; size]);
        let small = answers.hold(answer(SMALL - 1)).map(|_| answers.0.available_permits());
        assert_eq!(small.map_err(|refusal| refusal.code), Ok(MAX_ANSWERS));
        let large = answers.hold(answer(1 << 20)).map_err(|refusal| refusal.code).unwrap();
        let bytes = large.into_body().into_inner().unwrap();
        assert_eq!(
            (bytes.len(), answers.0.available_permits()),
            (1 << 20, MAX_ANSWERS - (1 << 20))
        );
        // Of it, too: what is in a socket's way is a part.
        let part = bytes.slice(10..);
        drop(bytes);
        let all = answers.hold(answer(MAX_ANSWERS)).map_err(|refusal| refusal.code);
        assert_eq!(all.map(|_| ()), Err("busy"));
        drop(part);
        assert_eq!(answers.0.available_permits(), MAX_ANSWERS);
    }

    /// A stranger may ask for them, on as many connections as there are.
    #[test]
    fn what_stands_in_the_binary_takes_no_room() {
        let answers = Answers::default();
        let files = page::files();
        let files = files.iter().map(|file| {
            page::answer(file, &Method::GET, &HeaderMap::new()).map_err(|refusal| refusal.code)
        });
        for reply in files.chain([Ok(openapi::answer())]) {
            let held = answers.hold(reply.unwrap()).map_err(|refusal| refusal.code);
            assert_eq!((held.is_ok(), answers.0.available_permits()), (true, MAX_ANSWERS));
        }
        // Packed, the document is a copy; of those there are no more than
        // connections.
        let packed = reply::packed(openapi::answer());
        let copy = packed.body().size_hint().exact().unwrap();
        assert!(copy < SMALL as u64, "{copy} bytes");
    }

    #[test]
    fn a_host_has_one_turn_at_a_time() {
        let turns = Turns::default();
        let code = |host| turns.of(host).map(drop).map_err(|refusal| refusal.code);
        let first = turns.of(Some(1)).map_err(|refusal| refusal.code);
        assert_eq!(
            (code(Some(1)), code(Some(2)), code(None), code(None)),
            (Err("busy"), Ok(()), Ok(()), Ok(()))
        );
        drop(first);
        assert_eq!((code(Some(1)), code(Some(1))), (Ok(()), Ok(())));
    }
}
