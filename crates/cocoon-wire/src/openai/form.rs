//! Reads a form's fields into the same shape as those of a JSON body.

use super::multipart::Form;
use super::read::{self, bad_field};
use super::{BodyError, RequestFields, STREAM_USAGE};
use crate::limits::MODEL_NAME_MAX;

/// What the network needs to know of a form.
#[derive(Debug, Default)]
pub(super) struct FormFields<'a> {
    pub(super) fields: RequestFields,
    pub(super) size: Option<&'a str>,
    pub(super) response_format: Option<&'a str>,
    /// Bytes of each file.
    pub(super) files: Vec<u64>,
    /// Bytes of the plain field `prompt`.
    pub(super) prompt_bytes: u64,
}

/// Fields that are read here, and those that an engine could take for a place to fetch from. Whoever compares names
/// without regard to case, or takes `model[]` for `model`, would read another form than this.
const KNOWN: [&str; 18] = [
    "model",
    "stream",
    STREAM_USAGE,
    "n",
    "size",
    "response_format",
    "prompt",
    "max_coefficient",
    "timeout",
    "enable_debug",
    "request_guid",
    "file",
    "image",
    "mask",
    "url",
    "width",
    "height",
    "_charset_",
];

/// Fields whose content must be a file, by what an error calls them.
const FILES: [&str; 3] = ["file", "image", "mask"];

pub(super) fn read<'a>(form: &Form<'a>) -> Result<FormFields<'a>, BodyError> {
    let mut read = FormFields::default();
    for part in &form.parts {
        let Some(name) = known(part.name)? else {
            if part.is_file {
                read.files.push(part.len());
            }
            continue;
        };
        if FILES.contains(&name) {
            if !part.is_file {
                // Engines take text in its place for an address, and would fetch it from inside a trusted machine.
                return Err(bad_field(name, "sent as a file: workers fetch nothing from the network"));
            }
            read.files.push(part.len());
            continue;
        }
        read.take(name, form.text(part, name)?)?;
    }
    Ok(read)
}

/// The known field that a name is, if it is one, in the one spelling that is taken.
fn known(name: &str) -> Result<Option<&'static str>, BodyError> {
    let single = name.strip_suffix("[]").unwrap_or(name);
    let Some(field) = KNOWN.into_iter().find(|field| single.eq_ignore_ascii_case(field)) else {
        return Ok(None);
    };
    let is_list = single.len() < name.len();
    if single != field {
        return Err(bad_field(field, "spelled in lower case"));
    }
    if is_list && field != "image" {
        return Err(bad_field(field, "a single form field"));
    }
    Ok(Some(field))
}

impl<'a> FormFields<'a> {
    fn take(&mut self, name: &'static str, text: &'a str) -> Result<(), BodyError> {
        let fields = &mut self.fields;
        match name {
            "model" if text.len() > MODEL_NAME_MAX => return Err(bad_field("model", "shorter")),
            "model" => fields.model = Some(text.to_owned()),
            "stream" => fields.stream = read_bool("stream", text)?,
            STREAM_USAGE => fields.include_usage = read_bool(STREAM_USAGE, text)?,
            "n" => fields.n = read::read_choices("n", text)?,
            "size" => self.size = Some(text),
            "response_format" => self.response_format = Some(text),
            "prompt" => self.prompt_bytes = u64::try_from(text.len()).unwrap_or(u64::MAX),
            "max_coefficient" => {
                let coefficient = read::read_count("max_coefficient", text)?;
                fields.max_coefficient = coefficient.map(cocoon_units::Coefficient::from_thousandths);
            }
            "timeout" => fields.timeout_ms = read::read_seconds("timeout", text)?,
            "enable_debug" => fields.enable_debug = read_bool("enable_debug", text)?,
            "request_guid" => fields.request_guid = Some(text.to_owned()),
            "url" => return Err(unsupported_url()),
            "width" => return Err(super::media::refused_side("width")),
            "height" => return Err(super::media::refused_side("height")),
            // It would change what the other fields mean.
            "_charset_" => return Err(bad_field("_charset_", "left out: forms are in UTF-8")),
            _ => {}
        }
        Ok(())
    }
}

/// Whatever engines take for true is one of these, or refused here.
fn read_bool(field: &'static str, text: &str) -> Result<bool, BodyError> {
    match text {
        "true" | "True" | "1" => Ok(true),
        "false" | "False" | "0" => Ok(false),
        _ => Err(bad_field(field, "true or false")),
    }
}

const fn unsupported_url() -> BodyError {
    BodyError::Unsupported { field: "url", reason: "workers fetch nothing from the network; send the file itself" }
}
