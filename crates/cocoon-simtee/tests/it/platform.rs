//! Platforms in directories, shared by processes.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Barrier};
use std::{fs, thread};

use cocoon_simtee::{Platform, StateError};

use crate::{DAY_S, NOW};

#[test]
fn everyone_who_opens_a_directory_at_once_gets_the_same_platform() {
    const OPENERS: usize = 8;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("not").join("there");
    let start = Arc::new(Barrier::new(OPENERS));
    let openers: Vec<_> = (0..OPENERS)
        .map(|_| {
            let (start, path) = (Arc::clone(&start), path.clone());
            thread::spawn(move || {
                start.wait();
                Platform::open(path, NOW).unwrap().root_pem()
            })
        })
        .collect();
    let roots: Vec<String> = openers.into_iter().map(|opener| opener.join().unwrap()).collect();
    assert!(roots.windows(2).all(|pair| pair[0] == pair[1]));
    let files: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(files, ["platform.json"], "no draft is left behind");
}

#[test]
fn the_same_platform_opens_later_with_the_same_certificates() {
    let directory = tempfile::tempdir().unwrap();
    let first = Platform::open(directory.path(), NOW).unwrap();
    let later = Platform::open(directory.path(), NOW + 10 * DAY_S).unwrap();
    assert_eq!(first.root_pem(), later.root_pem());
    assert_eq!(first.nvidia_root_pem(), later.nvidia_root_pem());
    assert_eq!(first.ppid(), later.ppid());
    assert_eq!(first.amd_root_pem(), later.amd_root_pem());
    // Without the kept keys they are made again, and are the same.
    fs::remove_file(directory.path().join("rsa-keys.json")).unwrap();
    assert_eq!(Platform::open(directory.path(), NOW).unwrap().amd_root_pem(), first.amd_root_pem());
}

#[test]
fn only_the_owner_reads_a_platforms_secret() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("platform");
    let platform = Platform::open(&path, NOW).unwrap();
    assert!(platform.amd_root_pem().starts_with("-----BEGIN"), "now the RSA keys are kept too");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for entry in fs::read_dir(&path).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
}

#[test]
fn a_foreign_file_is_not_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("platform.json");
    for text in ["", "{}", r#"{"version":2,"note":"","made_unix_s":0,"seed":""}"#] {
        fs::write(&file, text).unwrap();
        assert!(matches!(Platform::open(directory.path(), NOW), Err(StateError::Unreadable { .. })));
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
    }
}

#[test]
fn a_seed_gives_the_same_bytes_and_debug_output_no_secret() {
    let seed = [3; 32];
    let platform = Platform::from_seed(seed, NOW);
    assert_eq!(platform.root_pem(), Platform::from_seed(seed, NOW).root_pem());
    assert!(!format!("{platform:?}").contains("3, 3, 3"));
}
