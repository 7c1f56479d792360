//! The frame around every value on disk: a format byte, a CRC32C, the bytes.

/// The first byte of every record of this format.
const FORMAT: u8 = 1;
const HEADER_BYTES: usize = 5;

/// Frames a value.
pub fn seal(bytes: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(HEADER_BYTES + bytes.len());
    sealed.push(FORMAT);
    sealed.extend_from_slice(&crc32c::crc32c(bytes).to_le_bytes());
    sealed.extend_from_slice(bytes);
    sealed
}

/// Takes the frame off, or says what is wrong with it.
pub fn open(sealed: &[u8]) -> Result<&[u8], String> {
    let (header, bytes) = sealed
        .split_at_checked(HEADER_BYTES)
        .ok_or_else(|| format!("a record of {} bytes is too short", sealed.len()))?;
    if header[0] != FORMAT {
        return Err(format!("a record has format {}, this version reads format {FORMAT}", header[0]));
    }
    if header[1..] != crc32c::crc32c(bytes).to_le_bytes() {
        return Err("the checksum of a record is wrong".to_owned());
    }
    Ok(bytes)
}
