//! The fields of a protobuf message, one at a time, without taking memory for
//! any: a message of a few bytes may claim a million of them. It must not know
//! what a field means.

use crate::wire::WireError;

/// A field that holds bytes, text or a message; numbers are passed over.
pub(crate) struct Field<'a> {
    pub(crate) tag: u32,
    pub(crate) bytes: &'a [u8],
}

/// The fields of a message that hold bytes. At one that cannot be read it gives
/// an error and ends.
pub(crate) fn fields(bytes: &[u8]) -> Fields<'_> {
    Fields { rest: bytes }
}

pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            match self.field() {
                Some(Some(field)) => return Some(Ok(field)),
                Some(None) => {}
                None => {
                    self.rest = &[];
                    return Some(Err(WireError::Malformed("a field of it is cut off")));
                }
            }
        }
        None
    }
}

impl<'a> Fields<'a> {
    /// The next field; none inside for a number, none outside for damage.
    fn field(&mut self) -> Option<Option<Field<'a>>> {
        let key = self.varint()?;
        let tag = u32::try_from(key >> 3).ok()?;
        match key & 7 {
            0 => self.varint().map(|_| None),
            1 => self.take(8).map(|_| None),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                let bytes = self.take(length)?;
                Some(Some(Field { tag, bytes }))
            }
            5 => self.take(4).map(|_| None),
            _ => None,
        }
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

/// How many more things may be taken from a message.
pub(crate) struct Allowance(pub(crate) usize);

impl Allowance {
    pub(crate) fn take(&mut self) -> Result<(), WireError> {
        self.0 = self.0.checked_sub(1).ok_or(WireError::TooLarge)?;
        Ok(())
    }
}
