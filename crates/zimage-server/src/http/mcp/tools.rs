//! The tools.

use rmcp::handler::server::tool::schema_for_output;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{CallToolResult, ContentBlock, ProgressNotificationParam};
use rmcp::service::RequestContext;
use rmcp::{RoleServer, tool, tool_router};
use serde::Serialize;

use crate::draft::{Draft, DraftStart};
use crate::http::awaited::{self, Awaited};
use crate::http::mcp::parameters::{EditImage, GenerateImage, JobName};
use crate::http::mcp::pictures;
use crate::http::mcp::results::{Cancellation, JobResult, Model, Models, Style, progress};
use crate::http::mcp::server::{McpServer, client};
use crate::http::picture;
use crate::job::{Job, JobId, JobState};
use crate::queue::Cancelled;
use crate::refusal::Refusal;

#[tool_router(vis = "pub(super)")]
impl McpServer {
    /// Make pictures from a description. Takes seconds to minutes; the answer has the pictures.
    #[tool(output_schema = schema_for_output::<JobResult>(), annotations(read_only_hint = false, destructive_hint = false, open_world_hint = false))]
    async fn generate_image(
        &self,
        Parameters(asked): Parameters<GenerateImage>,
        context: RequestContext<RoleServer>,
    ) -> CallToolResult {
        let draft = asked.settings.into_draft(asked.prompt);
        self.make(draft, &context).await.unwrap_or_else(|refusal| refused(&refusal))
    }

    /// Change a picture: all of it, or where a mask is white.
    #[tool(output_schema = schema_for_output::<JobResult>(), annotations(read_only_hint = false, destructive_hint = false, open_world_hint = false))]
    async fn edit_image(
        &self,
        Parameters(asked): Parameters<EditImage>,
        context: RequestContext<RoleServer>,
    ) -> CallToolResult {
        match self.draft_of_edit(asked).await {
            Ok(draft) => self.make(draft, &context).await.unwrap_or_else(|refusal| refused(&refusal)),
            Err(refusal) => refused(&refusal),
        }
    }

    /// List the models and styles that there are.
    #[tool(output_schema = schema_for_output::<Models>(), annotations(read_only_hint = true, open_world_hint = false))]
    async fn list_models(&self) -> CallToolResult {
        let capabilities = self.app.service.run(|service| service.capabilities()).await;
        answer(capabilities.map(|capabilities| {
            let model = |info: crate::capabilities::ModelInfo| Model { name: info.name, native_size: info.native_size };
            let style = |lora: crate::models::LoraInfo| Style { id: lora.id, trigger_words: lora.trigger_words };
            Models {
                models: capabilities.models.into_iter().map(model).collect(),
                loras: capabilities.loras.into_iter().map(style).collect(),
            }
        }))
    }

    /// Tell how far a job is, and which pictures it has made.
    #[tool(output_schema = schema_for_output::<JobResult>(), annotations(read_only_hint = true, open_world_hint = false))]
    async fn get_job(&self, Parameters(name): Parameters<JobName>) -> CallToolResult {
        let job = match job_id(&name) {
            Ok(id) => self.app.service.run(move |service| service.job(id)).await,
            Err(refusal) => Err(refusal),
        };
        answer(job.map(|job| JobResult::of(&job)))
    }

    /// Stop a job. Pictures that it has finished stay.
    #[tool(output_schema = schema_for_output::<Cancellation>(), annotations(read_only_hint = false, destructive_hint = true, open_world_hint = false))]
    async fn cancel_job(&self, Parameters(name): Parameters<JobName>) -> CallToolResult {
        let cancelled = match job_id(&name) {
            Ok(id) => self.app.service.run(move |service| service.cancel(id)).await,
            Err(refusal) => Err(refusal),
        };
        answer(cancelled.map(|cancelled| Cancellation { job: name.id, cancelled: cancelled == Cancelled::Now }))
    }
}

impl McpServer {
    async fn draft_of_edit(&self, asked: EditImage) -> Result<Draft, Refusal> {
        let prepare = move |service: &crate::service::Service| {
            let image = pictures::stored(service, "image", &asked.image)?;
            let mask = asked.mask.map(|mask| pictures::stored_mask(service, &mask)).transpose()?;
            let mut draft = asked.settings.into_draft(asked.prompt);
            if draft.width.is_none() && draft.height.is_none() {
                let own = pictures::size(service, &image)?;
                let (width, height) = picture::drawn_size(service, draft.model.as_deref(), own)?;
                (draft.width, draft.height) = (Some(width), Some(height));
            }
            draft.start = Some(DraftStart { image, mask, strength: asked.strength });
            Ok(draft)
        };
        self.app.service.decode(prepare).await
    }

    /// Submits a job, tells of its progress, and gives its pictures. A client that gives up cancels it.
    async fn make(&self, draft: Draft, context: &RequestContext<RoleServer>) -> Result<CallToolResult, Refusal> {
        let awaited = Awaited::submit(&self.app.service, draft, client(context)).await?;
        let id = awaited.job().id;
        let job = tokio::select! {
            job = self.follow(id, context) => job?,
            // What is dropped here cancels the job.
            () = context.ct.cancelled() => return Ok(CallToolResult::error(vec![ContentBlock::text("cancelled")])),
        };
        awaited.settle();
        self.result(&job).await
    }

    /// Waits for the end of a job, and tells of each step if the client wants to know.
    async fn follow(&self, id: JobId, context: &RequestContext<RoleServer>) -> Result<Job, Refusal> {
        let token = context.meta.get_progress_token();
        let mut changes = self.app.service.changes();
        let mut told = 0.0;
        loop {
            let job = self.app.service.run(move |service| service.job(id)).await?;
            let done = progress(&job);
            if let Some(token) = token.clone().filter(|_| done > told) {
                told = done;
                let notification = ProgressNotificationParam::new(token, done).with_total(1.0);
                // A client that has gone is noticed elsewhere.
                let _ = context.peer.notify_progress(notification).await;
            }
            if job.state.is_final() {
                return Ok(job);
            }
            changes.next().await;
        }
    }

    async fn result(&self, job: &Job) -> Result<CallToolResult, Refusal> {
        let result = JobResult::of(job);
        if job.state != JobState::Done {
            let message = result.error.clone().unwrap_or_else(|| "the job was cancelled".into());
            return Ok(CallToolResult::error(vec![ContentBlock::text(message)]));
        }
        let files = awaited::pictures(&self.app.service, &job.images).await?;
        let images = job.images.clone();
        let mut content = self.app.service.decode(move |_| pictures::content(&images, &files)).await?;
        let data = serde_json::to_value(&result).map_err(Refusal::internal)?;
        // For clients that show the model neither links nor data.
        content.push(ContentBlock::text(data.to_string()));
        let mut called = CallToolResult::success(content);
        called.structured_content = Some(data);
        Ok(called)
    }
}

fn job_id(name: &JobName) -> Result<JobId, Refusal> {
    name.id.parse().map_err(|_| Refusal::NotFound { what: "job" })
}

fn answer(result: Result<impl Serialize, Refusal>) -> CallToolResult {
    let value = result.and_then(|result| serde_json::to_value(result).map_err(Refusal::internal));
    value.map_or_else(|refusal| refused(&refusal), CallToolResult::structured)
}

/// What went wrong, in words that a language model can act on.
fn refused(refusal: &Refusal) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(refusal.to_string())])
}
