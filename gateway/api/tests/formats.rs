//! The forms and hashes of what is signed or addressed by its content, as they were when the first bytes were signed.
//!
//! Documents outlive programs: an operator reads what an older one signed, and a chain holds digests for ever. A test
//! that fails here says that a format changed, so that its version must too. The hashes were computed apart from this
//! code, from the types' texts.

#![allow(
    clippy::unwrap_used,
    reason = "the lint's exception covers test functions, not what they call"
)]

use std::{collections::BTreeMap, fmt::Debug, fs};

use serde::{Serialize, de::DeserializeOwned};
use tradewind_gateway_api::{
    archive::pack, exact::Exact, grant::GrantToken, signed::Signed, template::Template,
};
use tradewind_market::{
    Address,
    document::{HostGrant, JobBundle, ResultIndex, StorageGrant},
    eip712::{Domain, StructHash},
    message::HexBytes,
    offer::OfferDetails,
};
use tradewind_result::{
    ContentDigest, Limits,
    tree::{Access, Hashing, TreeReader},
};

const DOMAIN: Domain = Domain {
    chain_id: 31337,
    market: Address::from_bytes([0x33; 20]),
};

/// The JSON is read and written again as it stands, and its struct hash is this one.
fn check<T: StructHash + Serialize + DeserializeOwned + Debug>(json: &str, hash: &str) -> T {
    let document: T = serde_json::from_str(json).unwrap();
    assert_eq!(serde_json::to_string(&document).unwrap(), json);
    assert_eq!(document.struct_hash().to_string(), hash);
    document
}

fn repeated(byte: &str, times: usize) -> String {
    format!("0x{}", byte.repeat(times))
}

#[test]
fn a_storage_grant_is_what_it_always_was() {
    let json = format!(
        r#"{{"signer":"{}","jobId":"{}","holder":"{}","maxBytes":4096,"expires":1900000000,"nonce":7}}"#,
        repeated("11", 20),
        repeated("22", 32),
        repeated("33", 32),
    );
    let grant: StorageGrant = check(
        &json,
        "0x3750dd1a1c212425f5586bd2ac79b404bda95f6e1fd069dcb28a5f314f7629dd",
    );
    let token = GrantToken::new(grant, HexBytes(vec![0xab, 0xcd])).unwrap();
    assert_eq!(
        token.digest(&DOMAIN).to_string(),
        "0x105f83d1beace1d40117a7b6ef40ee2d8ed97bcc654bc3faa916e19303ad79fd"
    );
    let text = "eyJzaWduZXIiOiIweDExMTExMTExMTExMTExMTExMTExMTExMTExMTExMTExMTExMTExMTEiLCJqb2JJZCI6IjB4MjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMiIsImhvbGRlciI6IjB4MzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMyIsIm1heEJ5dGVzIjo0MDk2LCJleHBpcmVzIjoxOTAwMDAwMDAwLCJub25jZSI6N30.0xabcd";
    assert_eq!(token.to_text(), text);
}

#[test]
fn a_job_bundle_is_what_it_always_was() {
    let json = format!(
        r#"{{"jobId":"{}","templateAddress":"{}","issued":1800000000,"envelopes":[{{"provider":"{}","sealed":"0x010203"}},{{"provider":"{}","sealed":"0x"}}]}}"#,
        repeated("22", 32),
        repeated("44", 32),
        repeated("55", 20),
        repeated("66", 20),
    );
    let _: JobBundle = check(
        &json,
        "0x9c55099c08919039f000666fcbce27c76374724fea59133e91a897b6ddffddfe",
    );
}

#[test]
fn a_result_index_is_what_it_always_was() {
    let unit = |unit: u32, outcome: u32, blob: &str, bytes: u64, chunks: &str| {
        format!(
            r#"{{"unit":{unit},"outcome":{outcome},"blob":"{}","storedBytes":{bytes},"chunkRoot":"{}"}}"#,
            repeated(blob, 32),
            repeated(chunks, 32),
        )
    };
    let json = format!(
        r#"{{"jobId":"{}","roundId":"{}","provider":"{}","units":[{},{}]}}"#,
        repeated("22", 32),
        repeated("77", 32),
        repeated("55", 20),
        unit(4, 0, "88", 1000, "99"),
        unit(5, 3, "aa", 2000, "bb"),
    );
    let index: ResultIndex = check(
        &json,
        "0x67e063fbfdef15461edfbbc462c1e2d3d9e39068ea887236d3188aaaf4a70fc7",
    );
    let signed = Signed {
        statement: index,
        signature: HexBytes(vec![1]),
    };
    assert_eq!(
        serde_json::to_string(&signed).unwrap(),
        format!(r#"{{"statement":{json},"signature":"0x01"}}"#)
    );
}

#[test]
fn a_template_is_what_it_always_was() {
    let image = format!("registry.example/povray@sha256:{}", "ab".repeat(32));
    let json = format!(
        r#"{{"jobSalt":"{}","image":"{image}","user":{{"uid":1000,"gid":1000}},"command":["render-strip"],"env":[{{"name":"WIDTH","value":"1920"}}],"resources":{{"cpuMillis":2000,"memoryBytes":2147483648,"gpus":0}},"completions":96,"slice":8,"secondsPerUnit":120,"outputPath":"/out","writablePaths":["/var/cache"],"egress":["pypi.example:443"],"inputs":[{{"name":"scene","blob":"{}","storedBytes":6,"manifestDigest":"{}"}}],"outputRecipient":"age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj","limits":{{"outputBytes":1073741824,"outputFiles":10000,"scratchBytes":4294967296,"scratchFiles":100000,"processes":1024}}}}"#,
        repeated("07", 32),
        repeated("0c", 32),
        repeated("0d", 32),
    );
    let digest: ContentDigest =
        serde_json::from_str("\"0x91003a89b0508123e1ec93dd468dd755704fefa2935c93470b162ac4a3be3605\"")
            .unwrap();
    let template = Template::from_bytes(json.as_bytes(), digest).unwrap();
    assert_eq!(String::from_utf8(template.to_bytes().unwrap()).unwrap(), json);
    assert_eq!(template.digest().unwrap(), digest);
}

#[test]
fn an_offers_details_are_what_they_always_were() {
    let json = r#"{"class":"gpu/NVIDIA-A100-SXM4-40GB/8.0/550/-/2","slot":{"cpuMillis":8000,"memoryBytes":34359738368,"diskBytes":1073741824,"gpus":2,"gpuMemoryBytes":42949672960},"region":"eu","recipient":"age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj","gatewayUrls":["https://gateway.example"],"egress":["*.pypi.example","data.example:8443"],"registries":["*"],"runtimeClass":"gvisor","userNamespaces":true,"missingIsolation":["NetworkPolicy"],"minSecondsPerUnit":10}"#;
    let details: OfferDetails = serde_json::from_str(json).unwrap();
    let written = Exact::new(details).unwrap();
    assert_eq!(written.text(), json);
    assert_eq!(
        written.digest().to_string(),
        "0x96977a01e490fe63e3a773abb74ea651f8e21d7aebe1b4fa30c804d23862e02a"
    );
}

#[test]
fn an_archive_is_what_it_always_was() {
    let files = BTreeMap::from([("a", "content"), ("b/c", ""), ("b/d", "more")]);
    let folder = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let file = folder.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }
    let limits = Limits {
        files: 100,
        bytes: 1000,
    };
    let reader = TreeReader::open(folder.path(), Access::AsIs).unwrap();
    let manifest = reader.manifest(limits, Hashing::Streamed).unwrap();
    let mut archive = Vec::new();
    pack(&reader, &manifest, b"last words", &mut archive).unwrap();
    assert_eq!(
        manifest.digest().to_string(),
        "0x3a8932ef3da384cb121c2838a86b1ecd3d2d8e32b86cf045233c96846fa7bfa1"
    );
    assert_eq!(
        ContentDigest::of(&archive).to_string(),
        "0xcf49d60ca802c4ac1d836c1f7499633ee7b4d270bcf7a5fb8bbdec33660140e0"
    );
}

#[test]
fn a_host_grant_is_what_it_always_was() {
    let json = format!(
        r#"{{"signer":"{}","jobId":"{}","hosts":["pypi.example:443","data.example:8443"],"expires":1900000000}}"#,
        repeated("11", 20),
        repeated("22", 32),
    );
    let _: HostGrant = check(
        &json,
        "0xabeb5f459550045081f218df06343fec78b46d6eb3d0098ea15fe400b1af3871",
    );
}
