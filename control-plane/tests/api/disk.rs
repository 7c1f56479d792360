//! A disk that is full, or cannot be written: a clear end, and nothing acknowledged is lost.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use proto::weft::graph::v1 as graph;
use tonic::{Code, Status};

use crate::member::{Client, PATIENCE, address_in, fresh_id};
use crate::parts;
use crate::process::{failure, say, wait};

/// The size of the disk: what sled makes at its start, twice, and room for a few thousand deploys.
const DISK: &str = "40m";

/// A program on a file system of its own, mounted on `folder` by `mount` in a namespace that ends with the program.
fn mounted(folder: &Path, mount: &str, flags: &[&str]) -> Command {
    let script = format!("{mount} && exec \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "--propagation", "private", "sh", "-c", &script, "sh"]);
    command.arg(env!("CARGO_BIN_EXE_control-plane"));
    command.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(folder).args(flags);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Whether this machine lets a test mount a file system.
fn can_mount(folder: &Path) -> Result<(), String> {
    let mount = format!("mount -t tmpfs -o size=1m none '{}'", folder.display());
    let command = ["--map-root-user", "--mount", "--propagation", "private", "sh", "-c", &mount];
    match Command::new("unshare").args(command).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(format!("unshare: {error}")),
    }
}

/// Deploys until the disk is full; what was answered last, and what was said then.
async fn fill(client: &mut Client) -> (u64, Status) {
    let deadline = Instant::now() + 4 * PATIENCE;
    let mut last = 0;
    let mut seed = 1_u64;
    loop {
        // Text that does not shrink, so that the disk fills soon.
        let mut noise = String::new();
        while noise.len() < 150_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            noise.push_str(&format!("# {seed:x}\n"));
        }
        let request = graph::DeployRequest {
            request_id: fresh_id(),
            manifest: format!("{noise}{}", parts::shop("shop", &last.to_string())),
            artifacts: parts::shop_artifacts(),
            ..graph::DeployRequest::default()
        };
        match client.graphs.deploy(request).await {
            Ok(answer) => last = answer.into_inner().revision,
            Err(status) => return (last, status),
        }
        assert!(Instant::now() < deadline, "the disk does not fill");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_the_member_and_loses_nothing() {
    for storage in ["wal", "sled"] {
        let folder = tempfile::tempdir().unwrap();
        if let Err(why) = can_mount(folder.path()) {
            return say(&format!("SKIPPED: full disks: this machine lets no test mount a file system: {why}"));
        }
        let (disk, kept) = (folder.path().join("disk"), folder.path().join("kept"));
        std::fs::create_dir_all(&disk).unwrap();
        // The member keeps its data in a folder of the small disk; a copy of it is taken out at the end, by the shell that
        // waits for the member: the disk is gone with the last process of the namespace.
        let mount = format!("mount -t tmpfs -o size={DISK} none '{}'", disk.display());
        let data = disk.join("data");
        let flag = format!("--storage={storage}");
        let script =
            format!("{mount} && \"$@\"; code=$?; cp -a '{}' '{}'; exit $code", data.display(), kept.display());
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "--propagation", "private", "sh", "-c", &script, "sh"]);
        command.arg(env!("CARGO_BIN_EXE_control-plane"));
        command.args(["--listen", "127.0.0.1:0", "--init", "--data-dir"]).arg(&data).arg(&flag);
        // No room is kept, so that it is the disk that refuses a write.
        command.arg("--disk-reserve=0Ki");
        let errors = std::fs::File::create(folder.path().join("errors")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::from(errors));
        let mut child = command.spawn().unwrap();
        // The disk is seen through the process that has it.
        let ready = || inside(child.id(), &data.join("ready.json"));
        let deadline = Instant::now() + PATIENCE;
        let ready = loop {
            if let Some(ready) = ready() {
                break ready;
            }
            assert!(Instant::now() < deadline, "the member is not ready");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let mut client = Client::new(address_in(&ready).await, ready.parent().unwrap());
        client.upload_parts().await;
        let (last, status) = fill(&mut client).await;
        assert!(last > 3, "some were answered before: {status:?}");
        assert!(matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Internal), "{status:?}");
        let code = wait(&mut child);
        let said = std::fs::read_to_string(folder.path().join("errors")).unwrap();
        assert!(!code.success(), "{said}");
        assert!(
            said.contains("the disk refused a write") && said.contains("this member has stopped"),
            "{said}"
        );
        assert!(!said.contains("panicked"), "{said}");

        // On a larger disk all of it is there.
        let running = crate::process::Running::start(&kept, &[&flag]).await;
        let mut client = running.client();
        let found = client.status("default/shop").await.unwrap().revision;
        assert!(found == last || found == last + 1, "{storage}: {last} were acknowledged, {found} are there");
        client.deploy(&parts::shop("shop", "goes on")).await.unwrap();
    }
}

/// A path as the processes of another mount namespace see it, once it is there.
fn inside(parent: u32, path: &Path) -> Option<std::path::PathBuf> {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    let pids = children.split_whitespace().map(str::to_owned).chain([parent.to_string()]);
    let seen =
        pids.map(|pid| Path::new("/proc").join(pid).join("root").join(path.strip_prefix("/").unwrap_or(path)));
    seen.into_iter().find(|seen| seen.exists())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_cannot_be_written_is_said() {
    let folder = tempfile::tempdir().unwrap();
    if let Err(why) = can_mount(folder.path()) {
        return say(&format!("SKIPPED: read-only disks: this machine lets no test mount a file system: {why}"));
    }
    for storage in ["--storage=wal", "--storage=sled"] {
        let path = folder.path().join(&storage[2..]);
        crate::process::Running::start(&path, &["--init", storage]).await.kill();
        let shown = path.display();
        let mount = format!("mount --bind '{shown}' '{shown}' && mount -o remount,ro,bind '{shown}'");
        let said = failure(mounted(&path, &mount, &[storage]));
        assert!(said.contains("Read-only file system"), "{said}");
        crate::process::Running::start(&path, &[storage]).await.kill();
    }
}

/// The library that makes syncs fail, built in `folder`.
fn failing_sync(folder: &Path) -> Result<std::path::PathBuf, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api/failing_sync.c");
    let library = folder.join("failing_sync.so");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl");
    match compiler.output() {
        Ok(output) if output.status.success() => Ok(library),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Err(format!("cc: {error}")),
    }
}

/// Row 7: the kernel drops what it could not write and says so once; whoever asks again is told that all is well.
#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_fails_stops_the_member_at_once_and_is_never_tried_again() {
    for storage in ["--storage=wal", "--storage=sled"] {
        let folder = tempfile::tempdir().unwrap();
        let library = match failing_sync(folder.path()) {
            Ok(library) => library,
            Err(why) => return say(&format!("SKIPPED: failing syncs: the library cannot be built: {why}")),
        };
        let [data, switch, notes, errors] =
            ["data", "switch", "notes", "errors"].map(|name| folder.path().join(name));
        let mut command = crate::process::program(&data, &["--init", storage]);
        command.env("LD_PRELOAD", library).env("SYNC_FAILS_IF", &switch).env("SYNC_NOTES", &notes);
        command.stderr(Stdio::from(std::fs::File::create(&errors).unwrap()));
        let mut child = command.spawn().unwrap();
        let mut client = Client::new(address_in(&data.join("ready.json")).await, &data);
        client.upload_parts().await;
        let mut last = 0;
        for number in 0..5 {
            last = client.deploy(&parts::shop("shop", &number.to_string())).await.unwrap().revision;
        }
        std::fs::write(&switch, "").unwrap();
        let status = client.deploy(&parts::shop("shop", "lost")).await.unwrap_err();
        // It may be on the disk, or not: nobody says that it is not.
        assert!(
            matches!(
                status.code(),
                Code::Unavailable | Code::Unknown | Code::DeadlineExceeded | Code::Internal
            ),
            "{status:?}"
        );
        let code = wait(&mut child);
        let said = std::fs::read_to_string(&errors).unwrap();
        assert!(!code.success() && said.contains("the disk refused a write"), "{code:?}: {said}");
        assert!(said.contains("this member has stopped") && !said.contains("panicked"), "{said}");
        let noted = std::fs::read_to_string(&notes).unwrap();
        let files: std::collections::BTreeSet<&str> = noted.lines().collect();
        assert!(
            !files.is_empty() && files.len() == noted.lines().count(),
            "{storage}: none is tried again: {noted}"
        );

        // On a disk that works all that was acknowledged is there.
        let running = crate::process::Running::start(&data, &[storage]).await;
        let found = running.client().status("default/shop").await.unwrap().revision;
        assert!(found == last || found == last + 1, "{storage}: {last} were acknowledged, {found} are there");
        running.client().deploy(&parts::shop("shop", "goes on")).await.unwrap();
    }
}
