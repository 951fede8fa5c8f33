//! The closed list of what is asked of inference engines.
//!
//! Clients route by it, proxies reserve by it, and workers refuse every path that is not in it.

/// One thing an engine can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `POST /v1/chat/completions`
    ChatCompletions,
    /// `POST /v1/completions`
    Completions,
    /// `POST /v1/embeddings`
    Embeddings,
    /// `POST /v1/rerank`
    Rerank,
    /// `POST /v1/audio/transcriptions`
    Transcriptions,
    /// `POST /v1/audio/translations`
    Translations,
    /// `POST /v1/images/generations`
    ImageGenerations,
    /// `POST /v1/images/edits`
    ImageEdits,
    /// `GET /v1/models`
    Models,
}

/// The form of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// There is none.
    None,
    /// `application/json`: one object.
    Json,
    /// `multipart/form-data`, with files in it.
    Multipart,
}

impl Endpoint {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::ChatCompletions,
        Self::Completions,
        Self::Embeddings,
        Self::Rerank,
        Self::Transcriptions,
        Self::Translations,
        Self::ImageGenerations,
        Self::ImageEdits,
        Self::Models,
    ];

    /// The endpoint that a method and a URL name, compared byte for byte.
    ///
    /// Queries, fragments, absolute URLs, dots and percent signs name nothing: there is no
    /// normalisation that could differ from the engine's.
    #[must_use]
    pub fn parse(method: &str, url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|endpoint| endpoint.method() == method && endpoint.path() == url)
    }

    /// `POST` or `GET`.
    #[must_use]
    pub const fn method(self) -> &'static str {
        match self.body() {
            BodyKind::None => "GET",
            BodyKind::Json | BodyKind::Multipart => "POST",
        }
    }

    /// Its path.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
            Self::Embeddings => "/v1/embeddings",
            Self::Rerank => "/v1/rerank",
            Self::Transcriptions => "/v1/audio/transcriptions",
            Self::Translations => "/v1/audio/translations",
            Self::ImageGenerations => "/v1/images/generations",
            Self::ImageEdits => "/v1/images/edits",
            Self::Models => "/v1/models",
        }
    }

    /// The form of its body.
    #[must_use]
    pub const fn body(self) -> BodyKind {
        match self {
            Self::ChatCompletions | Self::Completions | Self::Embeddings | Self::Rerank | Self::ImageGenerations => {
                BodyKind::Json
            }
            Self::Transcriptions | Self::Translations | Self::ImageEdits => BodyKind::Multipart,
            Self::Models => BodyKind::None,
        }
    }

    /// Whether it makes text token by token, so that its body carries a token limit.
    #[must_use]
    pub const fn has_token_limit(self) -> bool {
        matches!(self, Self::ChatCompletions | Self::Completions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_traversal_and_engine_internals_name_no_endpoint() {
        for url in [
            "/metrics",
            "/slots",
            "/props",
            "/tokenize",
            "/health",
            "/rerank",
            "/v2/rerank",
            "/v1/audio/speech",
            "/v1/files",
            "/v1/load_lora_adapter",
            "/v1/chat/completions/",
            "//v1/chat/completions",
            "/v1/../metrics",
            "/v1/audio/../../metrics",
            "/v1/audio/transcriptions/../../../metrics",
            "/v1/%2e%2e/metrics",
            "/v1/chat%2fcompletions",
            "/v1/embeddings?x=1",
            "/v1/chat/completions#x",
            "http://127.0.0.1/v1/embeddings",
            "//127.0.0.1/v1/embeddings",
            "/V1/chat/completions",
            "/v1/chat/completions\r\nX: y",
            " /v1/chat/completions",
            "*",
            "",
            "/v1/chat/completions\0",
            "\\v1\\chat\\completions",
            "/v1/models/../../metrics",
        ] {
            for method in ["POST", "GET", "CONNECT", "DELETE"] {
                assert_eq!(Endpoint::parse(method, url), None, "{method} {url:?}");
            }
        }
        assert_eq!(Endpoint::parse("GET", "/v1/chat/completions"), None);
        assert_eq!(Endpoint::parse("POST", "/v1/models"), None);
        assert_eq!(Endpoint::parse("post", "/v1/completions"), None);
    }

    #[test]
    fn endpoints_name_their_own_paths() {
        for endpoint in Endpoint::ALL {
            assert_eq!(Endpoint::parse(endpoint.method(), endpoint.path()), Some(endpoint));
        }
    }
}
