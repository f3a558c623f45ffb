use std::error::Error;

/// An error and its causes in one line, for the log and for who runs the service: each says its own level only.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_cause_is_said_once() {
        let error = "a..b".parse::<crate::ObjectName>().unwrap_err();
        let error = crate::CatalogError::Name { place: "functions".into(), source: error };
        assert_eq!(super::with_causes(&error), "functions: not a name: `a..b` has an empty part");
    }
}
