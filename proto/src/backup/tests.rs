use super::*;

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn head(state: &[u8], artifacts: &[&[u8]]) -> wire::Head {
    wire::Head {
        format: FORMAT,
        cluster: "c".to_owned(),
        revision: 7,
        taken_at_ms: 1,
        version: "0.1.0".to_owned(),
        state_bytes: state.len() as u64,
        state_sha256: sha256(state).to_vec(),
        artifacts: artifacts.len() as u64,
        artifact_bytes: artifacts.iter().map(|bytes| bytes.len() as u64).sum(),
        graphs: 1,
        policies: 0,
        nodes: 0,
    }
}

/// The parts of a sound backup, without its end.
fn parts(state: &[u8], artifacts: &[&[u8]]) -> Vec<Body> {
    let mut parts = vec![Body::Head(head(state, artifacts))];
    parts.extend(state.chunks(4).map(|chunk| Body::State(chunk.to_vec())));
    for bytes in artifacts {
        let digest = Digest::from_bytes(sha256(bytes)).to_string();
        parts.push(Body::Artifact(wire::ArtifactHead { digest, size: bytes.len() as u64 }));
        parts.extend(bytes.chunks(4).map(|chunk| Body::Chunk(chunk.to_vec())));
    }
    parts
}

fn written(parts: &[Body]) -> Result<Vec<u8>, BackupError> {
    let mut writer = Writer::new(Vec::new())?;
    for part in parts {
        writer.put(&wire::Part { part: Some(part.clone()) })?;
    }
    let end = writer.verifier.end();
    writer.put(&end)?;
    Ok(writer.finish()?.1)
}

fn sound() -> Vec<u8> {
    written(&parts(b"the state", &[b"one artifact", b"", b"another"])).unwrap()
}

fn verify(bytes: &[u8]) -> Result<wire::Head, BackupError> {
    Reader::new(bytes)?.verify()
}

#[test]
fn what_is_written_is_read() {
    let bytes = sound();
    assert_eq!(verify(&bytes).unwrap(), head(b"the state", &[b"one artifact", b"", b"another"]));
    let mut reader = Reader::new(&bytes[..]).unwrap();
    let mut state = Vec::new();
    while let Some(part) = reader.next().unwrap() {
        if let Body::State(chunk) = part {
            state.extend(chunk);
        }
    }
    assert_eq!(state, b"the state");
}

#[test]
fn one_that_is_cut_off_anywhere_is_refused() {
    let bytes = sound();
    for length in 0..bytes.len() {
        let error = verify(&bytes[..length]).unwrap_err();
        match length {
            0..8 => assert!(matches!(error, BackupError::NotABackup), "{length}: {error}"),
            _ => assert!(matches!(error, BackupError::CutOff(_)), "{length}: {error}"),
        }
    }
}

#[test]
fn one_changed_byte_anywhere_is_found() {
    let bytes = sound();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            assert!(verify(&changed).is_err(), "byte {at}, bit {bit}");
        }
    }
    let longer: Vec<u8> = bytes.iter().copied().chain([0]).collect();
    assert!(matches!(verify(&longer), Err(BackupError::CutOff(_))));
    let twice = [&bytes[..], &bytes[8..]].concat();
    assert!(matches!(verify(&twice), Err(BackupError::Trailing)));
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let all = parts(b"the state", &[b"one artifact", b"another"]);
    // Each one left out, doubled, and exchanged with the next.
    for at in 0..all.len() {
        let mut without = all.clone();
        without.remove(at);
        assert!(written(&without).is_err(), "without part {at}");
        let mut doubled = all.clone();
        doubled.insert(at, all[at].clone());
        assert!(written(&doubled).is_err(), "part {at} twice");
        let mut exchanged = all.clone();
        if at + 1 < all.len() && exchanged[at] != exchanged[at + 1] {
            exchanged.swap(at, at + 1);
            assert!(written(&exchanged).is_err(), "part {at} behind the next");
        }
    }
    let empty = written(&[]).unwrap_err();
    assert!(matches!(empty, BackupError::Damaged(_)), "{empty}");
    let mut verifier = Verifier::default();
    assert!(verifier.take(&wire::Part { part: None }).is_err());
}

#[test]
fn what_a_later_version_wrote_or_is_too_large_is_refused_by_its_head() {
    let mut later = head(b"", &[]);
    later.format = FORMAT + 1;
    let error = written(&[Body::Head(later)]).unwrap_err();
    assert_eq!((error.reason(), error.to_string().contains("format 2")), ("snapshot_version", true), "{error}");
    let mut huge = head(b"", &[]);
    huge.state_bytes = 1 << 40;
    assert_eq!(written(&[Body::Head(huge)]).unwrap_err().reason(), "snapshot_too_large");
    let artifact = wire::ArtifactHead { digest: Digest::from_bytes([0; 32]).to_string(), size: 1 << 40 };
    let mut beyond = parts(b"", &[]);
    beyond.push(Body::Artifact(artifact));
    assert_eq!(written(&beyond).unwrap_err().reason(), "snapshot_too_large");
    // A length that is not to be believed takes no memory.
    let mut bytes = MAGIC.to_vec();
    bytes.extend([0xff; 4]);
    assert!(matches!(verify(&bytes), Err(BackupError::Damaged(_))));
}
