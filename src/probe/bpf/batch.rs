//! Entries taken out of a BPF hash map, many with each system call.
//!
//! libbpf-rs has this as an iterator that takes the first batch which is not
//! full for the last. It is not: a batch ends where the next bucket of the
//! hash would not fit. So the system call itself is made here.

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use anyhow::{Context, Result, bail};
use rustix::io::Errno;

/// Entries of the first batch.
const ENTRIES: usize = 1024;

/// Entries of the largest; a bucket that does not fit into that is an attack
/// on the hash.
const MAX_ENTRIES: usize = 64 * 1024;

/// Room for entries of one size.
#[derive(Debug)]
pub struct Batch {
    key_size: usize,
    value_size: usize,
    keys: Vec<u8>,
    values: Vec<u8>,
}

impl Batch {
    /// For keys and values of that many bytes each.
    pub fn new(key_size: usize, value_size: usize) -> Batch {
        let mut batch = Batch { key_size, value_size, keys: Vec::new(), values: Vec::new() };
        batch.resize(ENTRIES);
        batch
    }

    fn resize(&mut self, entries: usize) {
        self.keys.resize(entries * self.key_size, 0);
        self.values.resize(entries * self.value_size, 0);
    }

    /// Takes all entries out of `map`, which must be a hash map with keys and
    /// values of these sizes. Those that are put in meanwhile may come or stay.
    pub fn drain(&mut self, map: BorrowedFd<'_>, mut each: impl FnMut(&[u8], &[u8])) -> Result<()> {
        // The kernel's place in the map: the number of the next bucket.
        let mut place: Option<u32> = None;
        loop {
            let room = self.keys.len() / self.key_size;
            let (taken, error) = self.take(map, &mut place, room);
            let keys = self.keys.chunks_exact(self.key_size);
            let values = self.values.chunks_exact(self.value_size);
            keys.zip(values).take(taken).for_each(|(key, value)| each(key, value));
            match error {
                None => {}
                Some(Errno::NOENT) => return Ok(()),
                Some(Errno::NOSPC) if room < MAX_ENTRIES => self.resize(room * 4),
                Some(Errno::NOSPC) => bail!("a bucket holds more than {MAX_ENTRIES} entries"),
                Some(error) => return Err(error).context("take entries out of a BPF map"),
            }
        }
    }

    /// One system call: the number of entries it took, and how it ended.
    #[expect(unsafe_code, reason = "the system call writes into buffers")]
    fn take(
        &mut self,
        map: BorrowedFd<'_>,
        place: &mut Option<u32>,
        room: usize,
    ) -> (usize, Option<Errno>) {
        let mut count = u32::try_from(room).expect("a batch has few entries");
        let mut from = place.unwrap_or(0);
        let mut next = 0_u32;
        let first = place.is_none();
        let from: *mut c_void =
            if first { ptr::null_mut() } else { ptr::from_mut(&mut from).cast() };
        // SAFETY: `keys` and `values` have room for `count` entries of the
        // sizes the map was made with (`Files::load` asserts them against
        // bpf/flow.h), `from` and `next` are the 4 bytes that a hash map's
        // place takes (`generic_map` in kernel/bpf/hashtab.c), and none of
        // them is kept after the call.
        let result = unsafe {
            libbpf_sys::bpf_map_lookup_and_delete_batch(
                map.as_raw_fd(),
                from,
                ptr::from_mut(&mut next).cast(),
                self.keys.as_mut_ptr().cast(),
                self.values.as_mut_ptr().cast(),
                &raw mut count,
                ptr::null(),
            )
        };
        let error = (result < 0)
            .then(|| Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO));
        // With any other error nothing was written, `count` included.
        let taken = match error {
            None | Some(Errno::NOENT) => count as usize,
            Some(_) => 0,
        };
        if error.is_none() {
            *place = Some(next);
        }
        (taken.min(room), error)
    }
}
