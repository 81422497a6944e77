//! A cluster's certificate authority, its certificates and its service account key. They are made anew for
//! each lab and thrown away with it; within a lab they do not expire.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, SanType,
};

use super::error::LabError;
use super::places::ClusterPlaces;

/// One certificate: file name, common name, organisation.
struct Subject {
    file: &'static str,
    name: String,
    organisation: &'static str,
}

/// Makes all keys and certificates of a cluster below its `pki` folder.
pub(crate) fn make(cluster: &ClusterPlaces) -> Result<(), LabError> {
    let dir = cluster.pki();
    fs::create_dir_all(&dir).map_err(LabError::io(format!("make {}", dir.display())))?;
    let mut authority = CertificateParams::default();
    authority.distinguished_name = name(&format!("{} authority", cluster.name), "tradewind lab");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    let failed = |what: &str| {
        let what = what.to_owned();
        move |source| LabError::Pki { what, source }
    };
    let key = KeyPair::generate().map_err(failed("the authority's key"))?;
    let authority = CertifiedIssuer::self_signed(authority, key).map_err(failed("the authority"))?;
    write(&dir.join("ca.crt"), &authority.pem())?;

    let subject = |file, name: &str, organisation| Subject {
        file,
        name: name.to_owned(),
        organisation,
    };
    for subject in [
        subject("apiserver", "kube-apiserver", "tradewind lab"),
        subject(
            "apiserver-kubelet",
            "kube-apiserver-kubelet-client",
            "system:masters",
        ),
        subject("admin", "admin", "system:masters"),
        subject(
            "controller-manager",
            "system:kube-controller-manager",
            "tradewind lab",
        ),
        subject("scheduler", "system:kube-scheduler", "tradewind lab"),
        subject(
            "kubelet",
            &format!("system:node:{}", cluster.node_name()),
            "system:nodes",
        ),
        subject("proxy", "system:kube-proxy", "tradewind lab"),
    ] {
        let key = KeyPair::generate().map_err(failed(subject.file))?;
        let certificate = certificate(cluster, &subject)
            .and_then(|params| params.signed_by(&key, &authority))
            .map_err(failed(subject.file))?;
        write(&dir.join(format!("{}.crt", subject.file)), &certificate.pem())?;
        write(&dir.join(format!("{}.key", subject.file)), &key.serialize_pem())?;
    }
    let key = KeyPair::generate().map_err(failed("the service account key"))?;
    write(&dir.join("service-account.key"), &key.serialize_pem())?;
    write(&dir.join("service-account.pub"), &key.public_key_pem())
}

fn certificate(cluster: &ClusterPlaces, subject: &Subject) -> Result<CertificateParams, rcgen::Error> {
    let names = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        &cluster.node_name(),
    ]
    .map(str::to_owned);
    let mut params = CertificateParams::new(names.to_vec())?;
    let loopback = IpAddr::from([127, 0, 0, 1]);
    // The first address of the service network is the one that Kubernetes gives to its own API.
    let api_service = IpAddr::from([10, 96, 0, 1]);
    params
        .subject_alt_names
        .extend([loopback, api_service, cluster.node_address().into()].map(SanType::IpAddress));
    params.distinguished_name = name(&subject.name, subject.organisation);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn name(common_name: &str, organisation: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name.push(DnType::OrganizationName, organisation);
    name
}

fn write(path: &Path, pem: &str) -> Result<(), LabError> {
    fs::write(path, pem).map_err(LabError::io(format!("write {}", path.display())))
}
