//! What did this client say in Snowflake's protocol, and what may it be told?
//!
//! Bytes and values in, values and bytes out: no clock, socket, randomness or configuration. The proxy around it fetches,
//! calls in here once, and acts on the answer.
//!
//! ```
//! use icegate_pep_protocol::{Limits, QueryRequest, Route, decode_body};
//!
//! let limits = Limits::default();
//! let route = Route::parse("POST", "/queries/v1/query-request", "requestId=7f1c3b1e-5a43-4a39-9f1a-0d6c7a1e2b3c").unwrap();
//! assert!(matches!(route, Route::Query { .. }));
//!
//! let body = decode_body(br#"{"sqlText": "select 1", "sequenceId": 1}"#, None, &limits).unwrap();
//! let query = QueryRequest::parse(body, &limits).unwrap();
//! assert_eq!(query.sql(), "select 1");
//! assert_eq!(query.statement_count(), 1);
//! ```
//!
//! Reading order: a request's [`route`], its [`body`], who is there ([`login`], [`sign_in`], [`token`], [`session`]), what they ask
//! ([`query`], [`tag`]), what is sent to Snowflake besides ([`upstream`]), how it comes back ([`wire`]) and what it replies ([`reply`],
//! [`chunk`]), and what icegate itself answers ([`refusal`], [`answer`]). [`api`] has the words of the SQL API.

pub mod answer;
pub mod api;
pub mod body;
pub mod chunk;
mod json;
pub mod limits;
pub mod login;
pub mod query;
pub mod refusal;
pub mod reply;
pub mod route;
pub mod secret;
pub mod session;
pub mod sign_in;
pub mod tag;
pub mod token;
pub mod upstream;
pub mod wire;

pub use body::{BodyError, decode as decode_body};
pub use chunk::{Chunk, ChunkFormat, Chunks, HostPattern, SealedChunk, StorageHeader, chunk_path};
pub use limits::Limits;
pub use login::{
    Carrier, ClientFacts, LoginError, LoginReply, LoginRequest, RequestedNames, UpstreamCredential, UpstreamLoginError,
    UpstreamSession, upstream_login,
};
pub use query::{QueryError, QueryRequest};
pub use refusal::{PepCode, Refusal};
pub use reply::{
    ChunkTerms, ClientReply, Delivery, ErrorText, MonitoringReply, Reply, ReplyRefusal, ReplyTerms, SessionContext,
};
pub use route::{QueryId, RequestId, Route, RouteError};
pub use secret::Secret;
pub use session::{AbortRequest, RenewRequest, SessionRequestError};
pub use sign_in::{AskedFor, SignInAsk, SignInPage, SignInReturn, SignInState, SignInTicket};
pub use tag::{Stamp, stamp};
pub use token::{SealKey, SealedSession, Sealer, TokenError, TokenKind, parse_authorization};
