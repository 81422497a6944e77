//! The picture: its strips as the job delivered them, put together, and the same scene rendered in one piece.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::json;

use crate::market::watch::{Found, Watched};
use crate::market::{Market, MarketError};

use super::{DemoError, HEIGHT, STRIPS, WIDTH};

/// What the job's script calls its file.
const FILE: &str = "strip.bmp";
/// Bytes of a bitmap before its pixels, as POV-Ray writes it.
const HEADER: usize = 54;
const CHANNELS: usize = 3;
const DIRECT: &str = "rendered-directly";
const DIRECT_WITHIN: Duration = Duration::from_mins(5);

/// Pixels, row by row from the top, as red, green and blue.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Picture {
    rows: Vec<Vec<u8>>,
}

impl Picture {
    fn from_bitmap(bytes: &[u8]) -> Result<Self, DemoError> {
        let number = |at: usize| {
            let field = bytes
                .get(at..at + 4)
                .and_then(|field| field.try_into().ok())
                .map(u32::from_le_bytes);
            field
                .and_then(|number| usize::try_from(number).ok())
                .ok_or_else(|| bad("a bitmap ends in its header"))
        };
        let (width, height) = (number(18)?, number(22)?);
        if bytes.get(..2) != Some(b"BM")
            || number(10)? != HEADER
            || bytes.get(28) != Some(&24)
            || width != WIDTH
        {
            return Err(bad(
                "what a strip holds is no bitmap of the picture's width with 24 bits for a pixel",
            ));
        }
        let stride = (width * CHANNELS).next_multiple_of(4);
        let pixels = bytes
            .get(HEADER..HEADER + stride * height)
            .ok_or_else(|| bad("a bitmap is cut short"))?;
        let from_the_top = pixels.chunks_exact(stride).rev();
        let rows = from_the_top.map(|row| {
            let pixels = row[..width * CHANNELS].chunks_exact(CHANNELS);
            pixels.flat_map(|pixel| [pixel[2], pixel[1], pixel[0]]).collect()
        });
        Ok(Self { rows: rows.collect() })
    }

    /// Says where two pictures differ, if they do.
    pub(super) fn same_as(&self, other: &Self) -> Result<(), DemoError> {
        if self.rows.len() != other.rows.len() {
            let (ours, theirs) = (self.rows.len(), other.rows.len());
            return Err(DemoError::Claim(format!(
                "the picture has as many rows ({ours}) as one rendered directly ({theirs})"
            )));
        }
        let differing = self
            .rows
            .iter()
            .zip(&other.rows)
            .position(|(ours, theirs)| ours != theirs);
        differing.map_or(Ok(()), |row| {
            Err(DemoError::Claim(format!(
                "the picture equals one rendered directly (row {row} differs)"
            )))
        })
    }

    /// Writes it as a PNG.
    pub(super) fn write_png(&self, path: &Path) -> Result<(), DemoError> {
        let file = File::create(path).map_err(DemoError::file(path))?;
        let side = |pixels: usize| u32::try_from(pixels).map_err(|_| bad("it is too large"));
        let mut encoder = png::Encoder::new(BufWriter::new(file), side(WIDTH)?, side(self.rows.len())?);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let written = encoder
            .write_header()
            .and_then(|mut writer| writer.write_image_data(&self.rows.concat()));
        written.map_err(|error| DemoError::file(path)(std::io::Error::other(error)))
    }
}

/// The strips as the job delivered them, from the top: a directory for each in the volume.
pub(super) fn strips(delivered: &Path) -> Result<Vec<Vec<u8>>, DemoError> {
    (0..STRIPS)
        .map(|unit| {
            let path = delivered.join(unit.to_string()).join(FILE);
            std::fs::read(&path).map_err(|_| DemoError::Claim(format!("strip {unit} was delivered")))
        })
        .collect()
}

/// Puts the strips together.
pub(super) fn assemble(strips: &[Vec<u8>]) -> Result<Picture, DemoError> {
    let mut rows = Vec::with_capacity(HEIGHT);
    for strip in strips {
        rows.extend(Picture::from_bitmap(strip)?.rows);
    }
    Ok(Picture { rows })
}

/// Renders the scene in one piece: a plain pod with the job's image and script, in the consumer's own cluster.
pub(super) async fn render_directly(market: &Market<'_>, namespace: &str) -> Result<Picture, DemoError> {
    let consumer = market.consumer()?;
    let dir = market.lab().data().join(DIRECT);
    std::fs::create_dir_all(&dir).map_err(DemoError::file(&dir))?;
    std::os::unix::fs::chown(&dir, Some(65532), Some(65532)).map_err(DemoError::file(&dir))?;
    let variable = |name: &str, value: &str| json!({"name": name, "value": value});
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": DIRECT},
        "spec": {
            "restartPolicy": "Never",
            "containers": [{
                "name": "run",
                "image": market.images().povray.pinned(),
                "command": ["render-strip"],
                "env": [
                    variable("WIDTH", &WIDTH.to_string()),
                    variable("HEIGHT", &HEIGHT.to_string()),
                    variable("STRIPS", "1"),
                    variable("JOB_COMPLETION_INDEX", "0"),
                    variable("TMPDIR", "/tmp"),
                    variable("HOME", "/tmp"),
                ],
                "volumeMounts": [
                    {"name": "scene", "mountPath": "/in/scene"},
                    {"name": "out", "mountPath": "/out"},
                ],
            }],
            "volumes": [
                {"name": "scene", "configMap": {"name": "flyby-scene"}},
                {"name": "out", "hostPath": {"path": dir}},
            ],
        },
    }))
    .map_err(|error| bad(&error.to_string()))?;
    let client = consumer.client().await?;
    Api::namespaced(client.clone(), namespace)
        .create(&kube::api::PostParams::default(), &pod)
        .await
        .map_err(MarketError::kubernetes("make the pod that renders directly"))?;
    let mut watched: Watched<Pod> = Watched::start(client, namespace, DIRECT);
    let what = "the picture rendered directly";
    watched
        .until(what, DIRECT_WITHIN, |pod| {
            let phase = pod
                .status
                .as_ref()
                .and_then(|status| status.phase.as_deref())
                .unwrap_or("no phase");
            if phase == "Succeeded" {
                Found::Wanted
            } else {
                Found::NotYet(format!("the pod is {phase}"))
            }
        })
        .await?;
    let path = dir.join(FILE);
    Picture::from_bitmap(&std::fs::read(&path).map_err(DemoError::file(&path))?)
}

fn bad(what: &str) -> DemoError {
    DemoError::Picture(what.to_owned())
}
