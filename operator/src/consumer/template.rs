//! The template of a job: what its object and its image say, as the document that every seat runs byte for byte.
//!
//! Pure. The same object, image and inputs always give the same bytes.

use tradewind_crds::{
    ComputeJobSpec,
    scalar::{ByteQuantity, MalformedText},
};
use tradewind_gateway_api::{
    seal::Recipient,
    template::{EnvVar, Input, Resources, Template, TemplateError, UnitLimits, User},
};
use tradewind_market::{Hash32, Seconds, Units};

use super::terms::{BadHost, hosts};
use crate::registry::ResolvedImage;

/// Why a job's template cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TemplateRefusal {
    /// The image names no user that it could run as.
    #[error(
        "the image's user is {user:?}; it must be a number other than 0, as USER 1000 in its Containerfile sets"
    )]
    User {
        /// As the image names it.
        user: String,
    },
    /// Neither job nor image says what to run.
    #[error("neither template.command nor the image's entrypoint or command says what to run")]
    NoCommand,
    /// A quantity cannot be read.
    #[error(transparent)]
    Quantity(#[from] MalformedText),
    /// A host cannot be read.
    #[error(transparent)]
    Host(#[from] BadHost),
    /// A rule that providers check as well is broken.
    #[error(transparent)]
    Rule(#[from] TemplateError),
}

impl TemplateRefusal {
    /// Whether it is the image that is at fault, not the spec.
    pub(crate) fn is_of_image(&self) -> bool {
        match self {
            Self::User { .. } => true,
            Self::NoCommand | Self::Quantity(_) | Self::Host(_) | Self::Rule(_) => false,
        }
    }
}

/// What the template holds besides what the object says.
#[derive(Debug)]
pub(crate) struct Ingredients<'a> {
    /// The job's salt.
    pub(crate) salt: Hash32,
    /// The image as pinned.
    pub(crate) image: &'a ResolvedImage,
    /// Units that one pod runs.
    pub(crate) units_per_slice: Units,
    /// Inputs as uploaded.
    pub(crate) inputs: Vec<Input>,
    /// Whom outputs are sealed to.
    pub(crate) output_recipient: Recipient,
}

/// Makes the template, and checks it by the rules that providers check it by.
pub(crate) fn build(
    spec: &ComputeJobSpec,
    ingredients: Ingredients<'_>,
) -> Result<Template, TemplateRefusal> {
    let Ingredients {
        salt,
        image,
        units_per_slice,
        inputs,
        output_recipient,
    } = ingredients;
    let asked = &spec.template;
    let template = Template {
        job_salt: salt,
        image: image.pinned.clone(),
        user: user(&image.user)?,
        command: command(&asked.command, &asked.args, image)?,
        env: asked
            .env
            .iter()
            .map(|variable| EnvVar {
                name: variable.name.clone(),
                value: variable.value.clone(),
            })
            .collect(),
        resources: Resources {
            cpu_millis: asked.resources.cpu.millicores()?,
            memory_bytes: asked.resources.memory.bytes()?,
            gpus: asked.resources.gpu.count,
        },
        completions: Units::new(spec.completions),
        slice: units_per_slice,
        seconds_per_unit: Seconds::new(asked.seconds_per_unit.into()),
        output_path: spec.outputs.path.clone(),
        writable_paths: asked.writable_paths.iter().map(|path| path.0.clone()).collect(),
        egress: hosts(asked)?,
        inputs,
        output_recipient,
        limits: limits(spec)?,
    };
    template.validate()?;
    Ok(template)
}

/// What one unit may write and use.
pub(crate) fn limits(spec: &ComputeJobSpec) -> Result<UnitLimits, MalformedText> {
    let bytes = |quantity: &ByteQuantity| quantity.bytes();
    Ok(UnitLimits {
        output_bytes: bytes(&spec.outputs.limits.bytes_per_unit)?,
        output_files: spec.outputs.limits.files_per_unit.into(),
        scratch_bytes: bytes(&spec.template.resources.disk)?,
        ..UnitLimits::default()
    })
}

/// As Kubernetes does: a command takes the place of entrypoint and arguments, arguments alone of the arguments.
fn command(
    command: &[String],
    args: &[String],
    image: &ResolvedImage,
) -> Result<Vec<String>, TemplateRefusal> {
    let (program, defaults): (&[String], &[String]) = if command.is_empty() {
        (&image.entrypoint, &image.cmd)
    } else {
        (command, &[])
    };
    let args = if args.is_empty() { defaults } else { args };
    let whole: Vec<String> = program.iter().chain(args).cloned().collect();
    if whole.is_empty() {
        Err(TemplateRefusal::NoCommand)
    } else {
        Ok(whole)
    }
}

/// `1000` or `1000:1000`; names could mean another user in another image's /etc/passwd.
fn user(text: &str) -> Result<User, TemplateRefusal> {
    let refuse = || TemplateRefusal::User {
        user: text.to_owned(),
    };
    let number = |digits: &str| digits.parse::<u32>().ok().filter(|id| *id != 0);
    let (uid, gid) = text.split_once(':').unwrap_or((text, text));
    Ok(User {
        uid: number(uid).ok_or_else(refuse)?,
        gid: number(gid).ok_or_else(refuse)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tradewind_gateway_api::seal::OpeningKey;

    fn image(user: &str) -> ResolvedImage {
        ResolvedImage {
            pinned: format!("registry.example/povray@sha256:{}", "ab".repeat(32)),
            entrypoint: vec!["render".into()],
            cmd: vec!["--fast".into()],
            env: vec![],
            working_dir: None,
            user: user.into(),
        }
    }

    fn spec(change: impl FnOnce(&mut serde_json::Value)) -> ComputeJobSpec {
        let mut spec = serde_json::json!({
            "completions": 8,
            "template": {
                "image": "registry.example/povray:1",
                "resources": {"cpu": "500m", "memory": "64Mi"},
                "secondsPerUnit": 30,
            },
            "payment": {"token": format!("0x{}", "11".repeat(20)), "maxPricePerUnit": "1", "budget": "100"},
        });
        change(&mut spec);
        serde_json::from_value(spec).unwrap()
    }

    fn built(spec: &ComputeJobSpec, image: &ResolvedImage) -> Result<Template, TemplateRefusal> {
        let output_recipient = OpeningKey::from_secret(&[1; 32]).unwrap().recipient();
        let salt = Hash32::from_bytes([7; 32]);
        let units_per_slice = Units::new(2);
        build(
            spec,
            Ingredients {
                salt,
                image,
                units_per_slice,
                inputs: vec![],
                output_recipient,
            },
        )
    }

    #[test]
    fn command_and_arguments_combine_as_in_a_pod() {
        let check = |command: &[&str], args: &[&str], expected: &[&str]| {
            let spec = spec(|spec| {
                spec["template"]["command"] = serde_json::json!(command);
                spec["template"]["args"] = serde_json::json!(args);
            });
            assert_eq!(
                built(&spec, &image("1000")).unwrap().command,
                expected,
                "{command:?} {args:?}"
            );
        };
        check(&[], &[], &["render", "--fast"]);
        check(&[], &["--slow"], &["render", "--slow"]);
        check(&["sh"], &[], &["sh"]);
        check(&["sh"], &["-c", "true"], &["sh", "-c", "true"]);
    }

    #[test]
    fn an_image_without_a_plain_numeric_user_is_unsuitable() {
        for user in ["", "0", "root", "nobody", "1000:0", "1000:staff", "-1"] {
            let refusal = built(&spec(|_| {}), &image(user)).unwrap_err();
            assert!(refusal.is_of_image(), "{user}: {refusal}");
        }
        assert_eq!(
            built(&spec(|_| {}), &image("1000:2000")).unwrap().user,
            User { uid: 1000, gid: 2000 }
        );
        assert_eq!(
            built(&spec(|_| {}), &image("1000")).unwrap().user,
            User { uid: 1000, gid: 1000 }
        );
    }

    #[test]
    fn the_same_job_always_has_the_same_template() {
        let digest = || built(&spec(|_| {}), &image("1000")).unwrap().digest().unwrap();
        assert_eq!(digest(), digest());
    }
}
