//! The server as the protocol sees it: its name, its tools, its resources.

use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::model::{
    Implementation, ListResourceTemplatesResult, PaginatedRequestParams, ReadResourceRequestParams,
    ReadResourceResponse, ReadResourceResult, ResourceContents, ResourceTemplate, ServerCapabilities, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler, tool_handler};

use crate::http::mcp::results::IMAGES;
use crate::http::picture::to_base64;
use crate::http::{App, Asker};
use crate::job::Sha256;
use crate::refusal::Refusal;
use crate::service::Client;

/// One client's server. It has no state of its own.
#[derive(Clone)]
pub struct McpServer {
    pub(super) app: App,
    tools: ToolRouter<McpServer>,
}

impl McpServer {
    /// A server over the same service.
    pub fn new(app: App) -> McpServer {
        McpServer { app, tools: McpServer::tool_router() }
    }
}

/// Who asks: whom the guard let in over HTTP, else the one on the other end of the pipe.
pub fn client(context: &RequestContext<RoleServer>) -> Client {
    let parts = context.extensions.get::<axum::http::request::Parts>();
    let asker = parts.and_then(|parts| parts.extensions.get::<Asker>()).cloned();
    asker.map_or_else(|| Client { owner: "local".into() }, |asker| asker.on_behalf_of(None))
}

#[tool_handler(router = self.tools)]
impl ServerHandler for McpServer {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().enable_resources().build();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("zimage", env!("CARGO_PKG_VERSION")))
            .with_instructions(
                "Makes pictures from descriptions. Describe what is to be seen in full sentences; earlier pictures are \
                 changed with edit_image by their id.",
            )
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let template = ResourceTemplate::new(format!("{IMAGES}{{id}}"), "picture")
            .with_description("The whole file of a picture, by the id that the tools give it");
        Ok(ListResourceTemplatesResult::with_all_items(vec![template]))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let unknown = || ErrorData::resource_not_found("there is no such picture", None);
        let id = request.uri.strip_prefix(IMAGES).map(str::to_owned).ok_or_else(unknown)?;
        let sha256 = Sha256::try_from(id).map_err(|_| unknown())?;
        let read = move |service: &crate::service::Service| {
            // Uploads are nobody's pictures.
            let image = service.image(&sha256)?;
            let file = service.files().image(&image.sha256, image.format).map_err(Refusal::internal)?;
            Ok((image, file.ok_or(Refusal::NotFound { what: "picture" })?))
        };
        let (image, file) = self.app.service.run(read).await.map_err(|refusal| match refusal {
            Refusal::NotFound { .. } => unknown(),
            refusal => ErrorData::internal_error(refusal.to_string(), None),
        })?;
        let contents = ResourceContents::blob(to_base64(&file), request.uri);
        let contents = contents.with_mime_type(image.format.media_type());
        Ok(ReadResourceResult::new(vec![contents]).into())
    }
}
