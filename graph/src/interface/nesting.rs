//! How deep component types are nested in each other, told without recursion: the parser descends with them, and a few
//! kilobytes of nothing but openings would overflow the stack of whoever parses them.

use wasmparser::{
    BinaryReader, ComponentAlias, ComponentExternName, ComponentImport, ComponentType, ComponentTypeRef,
    CoreType, Result,
};

/// The leading bytes of types that hold declarations: of a component, of an instance.
const HOLDERS: [u8; 2] = [0x41, 0x42];

/// Whether the types of a section are nested at most `most` deep; `offset` is where the section's bytes start.
pub(super) fn fits(section: &[u8], offset: usize, most: usize) -> Result<bool> {
    let mut reader = BinaryReader::new(section, offset);
    // What is left to read on each level: types of the section, then declarations.
    let mut left = vec![reader.read_var_u32()?];
    while let Some(level) = left.last_mut() {
        let Some(rest) = level.checked_sub(1) else {
            left.pop();
            continue;
        };
        *level = rest;
        let is_type = left.len() == 1 || is_type_declaration(&mut reader)?;
        if !is_type {
            continue;
        }
        if HOLDERS.contains(&reader.clone().read_u8()?) {
            reader.read_u8()?;
            left.push(reader.read_var_u32()?);
            if left.len() > most {
                return Ok(false);
            }
        } else {
            reader.read::<ComponentType<'_>>()?;
        }
    }
    Ok(true)
}

/// Whether a declaration declares a type, which is left to read; any other is read.
fn is_type_declaration(reader: &mut BinaryReader<'_>) -> Result<bool> {
    match reader.read_u8()? {
        0x01 => return Ok(true),
        0x00 => {
            reader.read::<CoreType<'_>>()?;
        }
        0x02 => {
            reader.read::<ComponentAlias<'_>>()?;
        }
        0x03 => {
            reader.read::<ComponentImport<'_>>()?;
        }
        // An export; what is none is refused by the validator, at the same byte.
        _ => {
            reader.read::<ComponentExternName<'_>>()?;
            reader.read::<ComponentTypeRef>()?;
        }
    }
    Ok(false)
}
