//! Manifests and the files they name, read from this machine; and refusals of them, shown where they are wrong.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use graph::diagnostic::{self, Diagnostic};
use graph::manifest::Manifest;
use graph::policy_manifest::PolicyManifest;
use model::digest::Digest;
use model::graph::{ARTIFACT_MAX, Artifact};
use model::id::GraphKey;
use model::name::NamespaceName;
use proto::weft::graph::v1 as wire;
use serde::Deserialize;
use serde::de::IgnoredAny;
use sha2::{Digest as _, Sha256};

use crate::client::{CallError, Client};
use crate::failure::Failure;

/// The longest manifest that is read: one byte more than is allowed, so that the parser can say so.
const MANIFEST_READ_MAX_BYTES: u64 = (1 << 20) + 1;

/// A manifest's text, and where it came from.
#[derive(Debug, Clone)]
pub struct Document {
    /// The file as it was named.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    folder: PathBuf,
}

/// Which of the two manifests a document is: what it names itself.
#[derive(Deserialize)]
struct Kind {
    graph: Option<IgnoredAny>,
    policy: Option<IgnoredAny>,
}

/// A file that a manifest names.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// What it is.
    pub artifact: Artifact,
    /// Its bytes.
    pub bytes: Arc<[u8]>,
}

/// The files of a manifest, under the names it gives them.
pub type SourceFiles = BTreeMap<String, SourceFile>;

/// Where a manifest names a file.
#[derive(Debug, Clone)]
pub struct SourcePlace {
    /// As written; relative to the manifest's folder.
    pub path: String,
    /// The path in the document.
    pub field: String,
    /// Bytes of the document.
    pub span: Option<Range<usize>>,
}

/// The places of a graph's sources.
pub fn graph_sources(manifest: &Manifest) -> Vec<SourcePlace> {
    let place = |source: &graph::manifest::Source| SourcePlace {
        path: source.path.clone(),
        field: source.field.clone(),
        span: source.span.clone(),
    };
    manifest.sources().iter().map(place).collect()
}

/// The places of a policy's sources.
pub fn policy_sources(manifest: &PolicyManifest) -> Vec<SourcePlace> {
    let place = |source: &graph::policy_manifest::PolicySource| SourcePlace {
        path: source.path.clone(),
        field: source.field.clone(),
        span: source.span.clone(),
    };
    manifest.sources().iter().map(place).collect()
}

impl Document {
    /// Reads a manifest.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let bytes = read_bounded(path, MANIFEST_READ_MAX_BYTES).map_err(|error| match error {
            FileProblem::TooLarge => Failure::refused(format!("{name} is too large to be a manifest")),
            other => Failure::refused(format!("{name}: {other}")),
        })?;
        let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
        Ok(Self { name, bytes, folder })
    }

    /// The text; what is not UTF-8 is replaced, as the parser has refused it already.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Whether this is the manifest of a policy: what it names itself.
    pub fn is_policy(&self) -> bool {
        self.kind().is_some_and(|kind| kind.policy.is_some() && kind.graph.is_none())
    }

    /// Reads this document as a graph.
    pub fn graph(&self, color: bool) -> Result<Manifest, Failure> {
        graph::manifest::parse(&self.bytes).map_err(|found| {
            if self.is_policy() {
                let message = format!("{} is a policy, not a graph", self.name);
                return Failure::refused(message).next(format!("ctl policy apply {}", self.name));
            }
            self.refuse(&found, color)
        })
    }

    /// Reads this document as a policy.
    pub fn policy(&self, color: bool) -> Result<PolicyManifest, Failure> {
        graph::policy_manifest::parse(&self.bytes).map_err(|found| {
            if self.kind().is_some_and(|kind| kind.graph.is_some() && kind.policy.is_none()) {
                let message = format!("{} is a graph, not a policy", self.name);
                return Failure::refused(message).next(format!("ctl deploy {}", self.name));
            }
            self.refuse(&found, color)
        })
    }

    fn kind(&self) -> Option<Kind> {
        serde_saphyr::from_str(&self.text()).ok()
    }

    /// Reads every file that the manifest names, or says all that is wrong with them.
    pub fn read_sources(&self, places: &[SourcePlace]) -> Result<SourceFiles, Vec<Diagnostic>> {
        let (files, found) = self.try_sources(places);
        if found.is_empty() { Ok(files) } else { Err(found) }
    }

    /// Reads the files that can be read, and says what is wrong with the others.
    pub fn try_sources(&self, places: &[SourcePlace]) -> (SourceFiles, Vec<Diagnostic>) {
        let mut files = SourceFiles::new();
        let mut found = Vec::new();
        for place in places {
            if files.contains_key(&place.path) {
                continue;
            }
            match read_bounded(&self.folder.join(&place.path), ARTIFACT_MAX.0) {
                Ok(bytes) => {
                    let digest = Digest::from_bytes(Sha256::digest(&bytes).into());
                    let artifact = Artifact { digest, size: bytes.len() as u64 };
                    files.insert(place.path.clone(), SourceFile { artifact, bytes: bytes.into() });
                }
                Err(problem) => found.push(self.unreadable(place, &problem)),
            }
        }
        (files, found)
    }

    fn unreadable(&self, place: &SourcePlace, problem: &FileProblem) -> Diagnostic {
        let path = self.folder.join(&place.path);
        let message = format!("{}: {problem}", path.display());
        let diagnostic = Diagnostic::error(problem.reason(), place.field.clone(), message)
            .at(place.span.clone(), "this source");
        match problem {
            FileProblem::Missing => diagnostic.help("a source is a file beside the manifest; is it built?"),
            _ => diagnostic,
        }
    }

    /// A refusal of this document, with excerpts.
    pub fn refuse(&self, found: &[Diagnostic], color: bool) -> Failure {
        let errors = found.iter().filter(|diagnostic| !diagnostic.is_warning).count();
        let plural = if errors == 1 { "" } else { "s" };
        Failure::Manifest {
            rendered: self.show(found, color),
            summary: format!("{}: {errors} mistake{plural}", self.name),
        }
    }

    /// Diagnostics of this document as text, each with the path of its field.
    pub fn show(&self, found: &[Diagnostic], color: bool) -> String {
        let text = self.text();
        let mut out = String::new();
        for one in found {
            let shown = diagnostic::render(std::slice::from_ref(one), &self.name, &text, color);
            out.push_str(shown.trim_end());
            if !one.field.is_empty() {
                out.push_str(&format!("\n  field: {}", one.field));
            }
            out.push_str("\n\n");
        }
        out
    }

    /// What a call says of this document: with excerpts, if it says where.
    pub fn refused(&self, error: CallError, color: bool) -> Failure {
        match error {
            CallError::Refused { diagnostics, .. } if !diagnostics.is_empty() => {
                self.refuse(&diagnostics, color)
            }
            other => other.into(),
        }
    }
}

/// A manifest says itself where its graph goes; `--namespace` names another place only by mistake.
pub fn check_namespace(document: &Document, key: &GraphKey, flag: &NamespaceName) -> Result<(), Failure> {
    let usual = NamespaceName::default_namespace();
    if *flag == usual || key.namespace != usual {
        return Ok(());
    }
    let message = format!(
        "{} puts its graph into namespace {usual}, and --namespace or CTL_NAMESPACE says {flag}",
        document.name
    );
    Err(Failure::refused(message)
        .help(format!("write `namespace: {flag}` into it, or add --namespace {usual}")))
}

/// The artifacts of files, as requests carry them.
pub fn artifacts(files: &SourceFiles) -> BTreeMap<String, wire::Artifact> {
    files.iter().map(|(path, file)| (path.clone(), file.artifact.into())).collect()
}

/// What an upload of a manifest's files had to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UploadTotal {
    /// Files that were sent, whole or from where they broke off.
    pub files: usize,
    /// Bytes that were sent.
    pub bytes: u64,
}

/// Sees to it that the control plane has every file.
pub async fn upload(client: &Client, files: &SourceFiles) -> Result<UploadTotal, CallError> {
    let mut total = UploadTotal::default();
    for file in files.values() {
        if let crate::client::Uploaded::Sent(bytes) = client.upload(&file.artifact, &file.bytes).await? {
            total.files += 1;
            total.bytes += bytes;
        }
    }
    Ok(total)
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
enum FileProblem {
    #[error("there is no such file")]
    Missing,
    #[error("this is not a file")]
    NotAFile,
    #[error("this is larger than is allowed ({ARTIFACT_MAX})")]
    TooLarge,
    #[error("it cannot be read: {0}")]
    Unreadable(io::Error),
}

impl FileProblem {
    fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "source_missing",
            Self::NotAFile => "source_address",
            Self::TooLarge => "component_too_large",
            Self::Unreadable(_) => "source_unreadable",
        }
    }
}

/// A whole file of at most `most` bytes. Pipes and devices, which may have no end, are no files.
fn read_bounded(path: &Path, most: u64) -> Result<Vec<u8>, FileProblem> {
    let problem = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => FileProblem::Missing,
        _ => FileProblem::Unreadable(error),
    };
    let about = std::fs::metadata(path).map_err(problem)?;
    if !about.is_file() {
        return Err(FileProblem::NotAFile);
    }
    if about.len() > most {
        return Err(FileProblem::TooLarge);
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(problem)?.take(most + 1).read_to_end(&mut bytes).map_err(problem)?;
    if bytes.len() as u64 > most { Err(FileProblem::TooLarge) } else { Ok(bytes) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn place(path: &str) -> SourcePlace {
        SourcePlace { path: path.to_owned(), field: "components.app.source".to_owned(), span: None }
    }

    #[test]
    fn sources_are_files_beside_the_manifest() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("graph.yaml"), "x").unwrap();
        std::fs::write(folder.path().join("a.wasm"), "abc").unwrap();
        let document = Document::read(&folder.path().join("graph.yaml")).unwrap();
        let files = document.read_sources(&[place("./a.wasm"), place("a.wasm"), place("./a.wasm")]).unwrap();
        assert_eq!(files.len(), 2, "each name that is written, once");
        let digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(files["./a.wasm"].artifact.digest.to_string(), digest);

        let found = document.read_sources(&[place("b.wasm"), place("."), place("a.wasm/x")]).unwrap_err();
        let reasons: Vec<&str> = found.iter().map(|diagnostic| &*diagnostic.reason).collect();
        assert_eq!(reasons, ["source_missing", "source_address", "source_missing"]);
    }

    #[test]
    fn a_file_without_end_is_no_file() {
        assert!(matches!(read_bounded(Path::new("/dev/zero"), 10), Err(FileProblem::NotAFile)));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large");
        std::fs::write(&path, [0; 11]).unwrap();
        assert!(matches!(read_bounded(&path, 10), Err(FileProblem::TooLarge)));
        assert_eq!(read_bounded(&path, 11).unwrap().len(), 11);
    }
}
