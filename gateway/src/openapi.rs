//! The interface's description, made from the handlers themselves.

use axum::Json;
use tradewind_gateway_api::wire::{
    About, BlobStat, MessagePage, MessageTaken, OfferPage, Reason, ReceiptRequest, ReceiptUnit, Refusal,
    UploadState,
};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};

use crate::{blobs, bundles, gateway, indexes, messages, offers, receipts};

#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "Tradewind gateway",
        description = "Content-addressed blobs, signed offers, documents of jobs, and storage receipts. Everything is \
            signed or addressed by its content, so a gateway can withhold but not lie. Every refusal has the body \
            Refusal. The relay in a provider's cluster serves the paths of blobs and uploads."
    ),
    paths(
        gateway::about, blobs::put, blobs::head, blobs::get, blobs::upload_state, offers::publish, offers::list,
        bundles::publish, bundles::newest, indexes::publish, indexes::get, messages::leave, messages::list,
        receipts::issue, serve,
    ),
    components(schemas(
        About, BlobStat, UploadState, OfferPage, MessagePage, MessageTaken, ReceiptRequest, ReceiptUnit, Refusal, Reason,
        offers::OfferTaken,
    )),
    modifiers(&Grant),
)]
struct Description;

struct Grant;

impl Modify for Grant {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("base64url(JSON of a StorageGrant) . 0x-hex of its EIP-712 signature")
            .build();
        if let Some(components) = &mut openapi.components {
            components.add_security_scheme("grant", SecurityScheme::Http(scheme));
        }
    }
}

/// The whole description.
pub fn description() -> utoipa::openapi::OpenApi {
    Description::openapi()
}

/// This description.
#[utoipa::path(get, path = "/openapi.json", responses((status = 200, body = Object)))]
pub(crate) async fn serve() -> Json<utoipa::openapi::OpenApi> {
    Json(description())
}
