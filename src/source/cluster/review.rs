//! What the API server says about the caller: who it is, and what it may do. Nothing of these questions stays in the cluster.

use serde::Deserialize;

use super::client::Client;
use super::failure::Failure;
use super::request;
use crate::object::DecodeError;
use crate::rights::Right;
use crate::store::Refusal;

/// The name of the user that the API server takes the caller for: SelfSubjectReview of authentication.k8s.io/v1.
pub async fn user(client: &Client) -> Result<String, Refusal> {
    let answer = ask(client, &request::who()).await;
    let name = answer.and_then(|status| status.user_info.map(|user| user.username).ok_or_else(|| missing("userInfo")));
    name.map_err(|failure| failure.refusal("the name of the user", client.server()))
}

/// Whether the caller has the right: SelfSubjectAccessReview of authorization.k8s.io/v1.
pub async fn may(client: &Client, right: &Right) -> Result<bool, Refusal> {
    let answer = ask(client, &request::may(right)).await;
    let allowed = answer.and_then(|status| status.allowed.ok_or_else(|| missing("allowed")));
    allowed.map_err(|failure| failure.refusal(format!("the right to {right}"), client.server()))
}

#[derive(Deserialize)]
struct Review {
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    user_info: Option<UserInfo>,
    allowed: Option<bool>,
}

#[derive(Deserialize)]
struct UserInfo {
    username: String,
}

const KIND: &str = "review";

async fn ask(client: &Client, request: &request::Request) -> Result<Status, Failure> {
    let body = client.read(request).await?;
    let review: Review = serde_json::from_slice(body.as_slice()).map_err(|error| DecodeError::Json {
        kind: KIND,
        line: error.line(),
        column: error.column(),
    })?;
    Ok(review.status)
}

fn missing(field: &'static str) -> Failure {
    DecodeError::Missing { kind: KIND, field }.into()
}
