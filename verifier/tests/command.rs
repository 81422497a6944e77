//! The command line as a script sees it: output and exit codes.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn verifier(args: &[&str]) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_verifier"))
        .args(args)
        .output()
        .unwrap();
    (
        status.code().unwrap(),
        String::from_utf8(stdout).unwrap(),
        String::from_utf8(stderr).unwrap(),
    )
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn equal_directories_answer_0_different_ones_1_and_refused_ones_2() {
    let dir = tempfile::tempdir().unwrap();
    let [one, two, bad] = ["one", "two", "bad"].map(|name| dir.path().join(name));
    for directory in [&one, &two, &bad] {
        fs::create_dir(directory).unwrap();
        fs::write(directory.join("image.bmp"), "BM").unwrap();
    }
    let (code, digest, _) = verifier(&["digest", path(&one)]);
    assert_eq!(code, 0);
    assert_eq!(
        verifier(&["compare", path(&one), path(&two)]),
        (0, format!("equal: {digest}"), String::new())
    );
    fs::write(two.join("image.bmp"), "BMx").unwrap();
    fs::write(two.join("more"), "").unwrap();
    let (code, text, _) = verifier(&["compare", path(&one), path(&two)]);
    assert_eq!(code, 1);
    assert!(
        text.contains("other content:       image.bmp (2 and 3 bytes)"),
        "{text}"
    );
    assert!(text.contains("only in the second:  more"), "{text}");
    let (code, text, _) = verifier(&["--json", "compare", path(&one), path(&two)]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (
            code,
            &json["equal"],
            json["differences"].as_array().unwrap().len()
        ),
        (1, &false.into(), 2)
    );
    std::os::unix::fs::symlink("/etc/passwd", bad.join("link")).unwrap();
    let (code, text, error) = verifier(&["compare", path(&one), path(&bad)]);
    assert_eq!((code, text.as_str()), (2, ""));
    assert!(error.contains("link is a symbolic link"), "{error}");
}

#[test]
fn a_proof_that_was_made_holds_and_a_changed_one_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let (source, proof) = (dir.path().join("results.json"), dir.path().join("proof.json"));
    let results: Vec<_> = (0..5)
        .map(|unit| {
            serde_json::json!({"unit": unit, "outcome": {"exit": unit}, "digest": format!("0x{}", "ab".repeat(32))})
        })
        .collect();
    let word = |byte: &str| format!("0x{}", byte.repeat(32));
    let document = serde_json::json!({"job": word("01"), "jobSalt": word("02"), "results": results});
    fs::write(&source, document.to_string()).unwrap();
    let (code, made, _) = verifier(&["--json", "proof", "make", path(&source), "--index", "4"]);
    assert_eq!(code, 0);
    fs::write(&proof, &made).unwrap();
    let root = serde_json::from_str::<serde_json::Value>(&made).unwrap()["root"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(verifier(&["proof", "check", path(&proof), "--root", &root]).0, 0);
    assert_eq!(
        verifier(&["proof", "check", path(&proof), "--root", &word("03")]).0,
        1
    );
    fs::write(&proof, made.replace("\"index\": 4", "\"index\": 3")).unwrap();
    assert_eq!(verifier(&["proof", "check", path(&proof)]).0, 1);
    assert_eq!(verifier(&["proof", "make", path(&source), "--index", "5"]).0, 2);
    let (code, _, error) = verifier(&["proof", "check", path(&source)]);
    assert_eq!(code, 2, "{error}");
}
