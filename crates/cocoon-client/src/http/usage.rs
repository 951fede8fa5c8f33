//! `/v1/usage`: what was used, by day, API key and model. A key sees its own; the owner sees all.

use http::{Response, StatusCode};
use serde_json::json;

use super::{body::ResponseBody, info};
use crate::{Shared, keys::Access};

/// Newest day first, open requests at the most they can cost.
pub(super) fn usage(shared: &Shared, access: &Access) -> Response<ResponseBody> {
    let budget = &shared.budget;
    let whose = if access.is_owner { None } else { access.key.as_deref() };
    let body = json!({ "object": "list", "data": budget.usage(whose), "today": budget.today(access) });
    info::json_response(StatusCode::OK, &body)
}
