//! The fields of a message, where they lie in its bytes (protobuf.dev, "Encoding").

/// Bytes that are no message, or one of a kind that is not written here: prost says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Strange;

/// What is left of a message.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

/// The value of a field.
pub(crate) enum Field<'a> {
    /// A number, or a word of an enum.
    Number(u64),
    /// A text, or a message.
    Bytes(&'a [u8]),
    /// Of a fixed size; nothing that is read here is.
    Fixed,
}

impl<'a> Fields<'a> {
    /// The next field and its number; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Field<'a>)>, Strange> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.number()?;
        let field = match key & 7 {
            0 => Field::Number(self.number()?),
            2 => {
                let length = usize::try_from(self.number()?).map_err(|_| Strange)?;
                Field::Bytes(self.take(length)?)
            }
            1 => self.take(8).map(|_| Field::Fixed)?,
            5 => self.take(4).map(|_| Field::Fixed)?,
            // Groups, which nobody writes any more, and what is none of these.
            _ => return Err(Strange),
        };
        Ok(Some((key >> 3, field)))
    }

    /// Nothing is left.
    pub(crate) fn end(&self) -> Result<(), Strange> {
        if self.0.is_empty() { Ok(()) } else { Err(Strange) }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Strange> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Strange)?;
        self.0 = rest;
        Ok(taken)
    }

    /// Seven bits a byte, the lowest first.
    fn number(&mut self) -> Result<u64, Strange> {
        if let [byte @ 0..0x80, rest @ ..] = self.0 {
            self.0 = rest;
            return Ok((*byte).into());
        }
        let mut number = 0u64;
        for (at, byte) in self.0.iter().take(10).enumerate() {
            // The tenth has room for one bit.
            if at == 9 && *byte > 1 {
                return Err(Strange);
            }
            number |= u64::from(byte & 0x7f) << (7 * at);
            if *byte < 0x80 {
                self.0 = &self.0[at + 1..];
                return Ok(number);
            }
        }
        Err(Strange)
    }
}

impl<'a> Field<'a> {
    pub(crate) fn number(&self) -> Result<u64, Strange> {
        match self {
            Self::Number(number) => Ok(*number),
            _ => Err(Strange),
        }
    }

    pub(crate) fn bytes(&self) -> Result<&'a [u8], Strange> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(Strange),
        }
    }

    pub(crate) fn text(&self) -> Result<&'a str, Strange> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Strange)
    }
}
