//! Prompts -> what the transformer reads of them.

use super::Pipeline;
use super::plan::Strategy;
use super::request::GenerateRequest;
use crate::Result;
use zimage_tensor::Tensor;

/// What the text encoder made of one text.
#[derive(Debug)]
pub struct TextFeatures {
    /// `(tokens, hidden_size)`.
    pub features: Tensor,
    /// Tokens beyond the model's limit, which were cut off.
    pub dropped_tokens: usize,
}

/// The texts of a request, encoded.
#[derive(Debug)]
pub struct Prompts {
    /// Of the prompt.
    pub positive: TextFeatures,
    /// Of the negative prompt, if the request is guided.
    pub negative: Option<TextFeatures>,
}

/// How long a text is for the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenCount {
    /// Tokens that the model reads, the chat template's included.
    pub used: usize,
    /// Tokens beyond the model's limit, which are cut off.
    pub dropped: usize,
}

impl Pipeline {
    /// Counts the tokens of a text, without the text encoder.
    ///
    /// # Errors
    /// [`crate::Error::Request`] for a text that the tokenizer refuses.
    pub fn count_tokens(&self, text: &str) -> Result<TokenCount> {
        let tokens = self.tokenizer.encode(text)?;
        Ok(TokenCount { used: tokens.ids.len(), dropped: tokens.dropped })
    }

    /// Encodes the prompts of several requests. The text encoder is in memory only for the time of
    /// this call, unless the strategy keeps it.
    ///
    /// # Errors
    /// [`crate::Error::Request`] for an unusable prompt, [`crate::Error::NonFinite`], or those of loading.
    pub fn encode(&self, requests: &[GenerateRequest], strategy: Strategy) -> Result<Vec<Prompts>> {
        let _memory = self.device.keep_memory();
        let text_encoder = self.load_text_encoder(strategy)?;
        let encode = |text: &str| -> Result<TextFeatures> {
            let tokens = self.tokenizer.encode(text)?;
            if tokens.dropped > 0 {
                tracing::warn!("the prompt is too long: its last {} tokens are not used", tokens.dropped);
            }
            let features = text_encoder.forward(&tokens.ids)?.detached();
            Ok(TextFeatures { features, dropped_tokens: tokens.dropped })
        };
        let prompts = requests.iter().map(|request| {
            let negative = request.is_guided().then(|| encode(&request.negative_prompt)).transpose()?;
            Ok(Prompts { positive: encode(&request.prompt)?, negative })
        });
        prompts.collect()
    }
}
