//! What is done with results: how their parts reach drivers, and what they are masked with.

use std::path::{Path, PathBuf};

use icegate_pep_masking::{Pattern, Scanner};
use icegate_pep_protocol::HostPattern;
use serde::Deserialize;

use super::{
    Delivering, MaskKeys, Masking, Results,
    raw::{Fault, Text, base_url, duration},
};

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawResults {
    #[serde(default)]
    chunks: Delivering,
    storage_hosts: Option<Vec<String>>,
    ca: Option<PathBuf>,
    #[serde(default)]
    danger_plaintext: bool,
    url: Option<String>,
    ttl: Option<Text>,
    fetches_max: Option<usize>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMasking {
    keys_file: Option<PathBuf>,
    keys_command: Option<Vec<String>>,
    keys_every: Option<Text>,
    #[serde(default)]
    patterns: Vec<RawPattern>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPattern {
    name: String,
    regex: String,
}

pub(super) fn results_of(raw: RawResults) -> Result<Results, Fault> {
    let defaults = Results::default();
    let storage_hosts = match &raw.storage_hosts {
        None => defaults.storage_hosts,
        Some(texts) => texts
            .iter()
            .map(|text| {
                HostPattern::parse(text).ok_or_else(|| {
                    Fault::at(
                        "results",
                        "storage_hosts",
                        format!("`results.storage_hosts` has `{text}`; a host name with `*` for whole labels but the last two, as in \"*.s3.*.amazonaws.com\""),
                    )
                })
            })
            .collect::<Result<_, _>>()?,
    };
    let url = match &raw.url {
        None => None,
        // Loopback without TLS is for a proxy in front that does it.
        Some(url) => {
            base_url("results", url, url.starts_with("http:"))?;
            Some(url.trim_end_matches('/').to_owned())
        }
    };
    let ttl = duration("results", "ttl", raw.ttl.as_ref(), "1h")?;
    if ttl.is_zero() {
        return Err(Fault::at("results", "ttl", "`results.ttl` is 0; drivers need some time to fetch, as in \"1h\""));
    }
    let fetches_max = match raw.fetches_max {
        Some(0) => {
            return Err(Fault::at("results", "fetches_max", "`results.fetches_max` is 0; it must be at least 1"));
        }
        told => told.unwrap_or(defaults.fetches_max),
    };
    let RawResults { chunks, ca, danger_plaintext, .. } = raw;
    Ok(Results { chunks, storage_hosts, ca, danger_plaintext, url, ttl, fetches_max })
}

pub(super) fn masking_of(raw: RawMasking) -> Result<Masking, Fault> {
    let patterns = raw.patterns.into_iter().map(|RawPattern { name, regex }| Pattern { name, regex }).collect();
    let keys = match (raw.keys_file, raw.keys_command.as_deref()) {
        (None, None) => None,
        (Some(file), None) => Some(MaskKeys::File(file)),
        (None, Some([program, arguments @ ..])) if Path::new(program).is_absolute() => {
            Some(MaskKeys::Command(program.into(), arguments.to_vec()))
        }
        (None, Some(_)) => {
            let message = "`masking.keys_command` begins with the whole path of a program, as in [\"/usr/local/bin/mask-keys\"]; no shell reads it";
            return Err(Fault::at("masking", "keys_command", message));
        }
        (Some(_), Some(_)) => {
            let message = "`masking.keys_file` and `masking.keys_command` exclude each other; remove one";
            return Err(Fault::at("masking", "keys_command", message));
        }
    };
    let keys_every = duration("masking", "keys_every", raw.keys_every.as_ref(), "10m")?;
    if keys_every.is_zero() {
        let message = "`masking.keys_every` is 0; the command is run every so often, as in \"10m\"";
        return Err(Fault::at("masking", "keys_every", message));
    }
    let masking = Masking { keys, keys_every, patterns };
    match Scanner::new(&[], &masking.patterns) {
        Ok(_) => Ok(masking),
        Err(error) => Err(Fault::at("masking", "patterns", format!("`masking.patterns`: {error}"))),
    }
}
