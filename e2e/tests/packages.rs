//! What `deploy/local/stages` installs is what a lab checks for: the shell has to know it before this is compiled.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use tradewind_e2e::lab::ground;

#[test]
fn the_stages_install_what_a_lab_checks_for() {
    let stages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/local/stages");
    let script = fs::read_to_string(stages).unwrap();
    let (_, rest) = script.split_once("\nwanted=(").unwrap();
    let (list, _) = rest.split_once(')').unwrap();
    let installed: BTreeSet<&str> = list.split_whitespace().collect();
    let checked: BTreeSet<&str> = ground::debian_packages().collect();
    assert_eq!(installed, checked);
}
