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
    #[derive(Debug, thiserror::Error)]
    #[error("the catalog")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn every_cause_is_said_once() {
        let error = crate::CatalogError::Duplicate("A.B.C".into());
        let error = std::io::Error::other(error);
        let outer = Outer(error);
        let wanted = "the catalog: A.B.C stands there twice once names are folded to upper case";
        assert_eq!(super::with_causes(&outer), wanted);
    }
}
