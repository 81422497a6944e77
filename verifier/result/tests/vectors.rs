//! The golden vectors that the contract's tests write: both sides hash the same bytes to the same roots.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;

use serde_json::Value;
use sha3::{Digest as _, Keccak256};
use tradewind_result::leaf::{self, Tree, UnitResult, result_root, unit_salt};
use tradewind_result::stored::{StoredUnit, chunk_root, stored_root};
use tradewind_result::{ContentDigest, Node, Outcome, Root, merkle};

fn vectors(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../deploy/contracts/vectors")
        .join(name);
    serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap()
}

fn bytes(value: &Value) -> [u8; 32] {
    *value.as_str().unwrap().parse::<Node>().unwrap().as_bytes()
}

/// `keccak256(abi.encode(text, number))`, by which the contract's tests make up digests.
fn made_up(text: &str, number: u32) -> [u8; 32] {
    let word = |number: u32| [&[0; 28][..], &number.to_be_bytes()].concat();
    let padded = [text.as_bytes(), &vec![0; 32 - text.len()]].concat();
    let length = u32::try_from(text.len()).unwrap();
    Keccak256::digest([word(0x40), word(number), word(length), padded].concat()).into()
}

fn results(count: u32) -> Vec<UnitResult> {
    (0..count)
        .map(|unit| UnitResult {
            unit,
            outcome: Outcome::Exit(if unit % 3 == 0 {
                0
            } else {
                u8::try_from(unit).unwrap()
            }),
            digest: ContentDigest::from_bytes(made_up("digest", unit)),
        })
        .collect()
}

#[test]
fn leaves_roots_and_proofs_are_the_contracts() {
    let golden = vectors("result-tree.json");
    let (job, salt) = (bytes(&golden["jobId"]), bytes(&golden["jobSalt"]));
    let five = results(6)[5];
    assert_eq!(unit_salt(&salt, 5), bytes(&golden["unitSalt5"]));
    assert_eq!(five.digest.as_bytes(), &bytes(&golden["digest5"]));
    assert_eq!(
        u64::from(five.outcome.code()),
        golden["outcome5"].as_u64().unwrap()
    );
    assert_eq!(
        leaf::leaf(Tree::A, &job, &salt, &five).as_bytes(),
        &bytes(&golden["leafA5"])
    );
    assert_eq!(
        leaf::leaf(Tree::B, &job, &salt, &five).as_bytes(),
        &bytes(&golden["leafB5"])
    );
    let leaves: Vec<Node> = golden["leavesA"]
        .as_array()
        .unwrap()
        .iter()
        .map(|leaf| Node::from_bytes(bytes(leaf)))
        .collect();
    for count in [1, 2, 3, 5, 7, 8, 13] {
        let results = results(count);
        let root_a = result_root(Tree::A, &job, &salt, &results).unwrap();
        assert_eq!(root_a.as_bytes(), &bytes(&golden[format!("rootA{count}")]));
        let root_b = result_root(Tree::B, &job, &salt, &results).unwrap();
        assert_eq!(root_b.as_bytes(), &bytes(&golden[format!("rootB{count}")]));
        let leaves = &leaves[..count as usize];
        for (place, index) in [("Last", count - 1), ("Middle", count / 2)] {
            let golden = &golden[format!("proofOf{place}{count}")];
            let golden: Vec<Node> = golden
                .as_array()
                .unwrap()
                .iter()
                .map(|node| Node::from_bytes(bytes(node)))
                .collect();
            assert_eq!(
                merkle::prove(leaves, index).unwrap(),
                golden,
                "{place} of {count}"
            );
            assert!(merkle::verify(
                root_a,
                count,
                index,
                leaves[index as usize],
                &golden
            ));
        }
    }
}

#[test]
fn stored_bytes_have_the_contracts_roots() {
    let golden = vectors("stored-tree.json");
    let mut units = Vec::new();
    for (unit, size) in (0..).zip(golden["sizes"].as_array().unwrap()) {
        let length = size.as_u64().unwrap();
        let blob: Vec<u8> = (0..length).map(|i| u8::try_from(7 * i % 251).unwrap()).collect();
        let (_, counted, root) = chunk_root(&blob[..]).unwrap();
        assert_eq!(counted, length);
        assert_eq!(
            root,
            Root::from_bytes(bytes(&golden[format!("chunkRoot{length}")]))
        );
        let address = ContentDigest::from_bytes(made_up("blob", unit));
        assert_eq!(address.as_bytes(), &bytes(&golden[format!("blobAddress{unit}")]));
        let stored = StoredUnit {
            unit,
            address,
            length,
            chunk_root: root,
        };
        assert_eq!(
            stored.leaf().as_bytes(),
            &bytes(&golden["storedLeaves"][unit as usize])
        );
        units.push(stored);
    }
    assert_eq!(
        stored_root(&units).unwrap().as_bytes(),
        &bytes(&golden["storedRoot"])
    );
}
