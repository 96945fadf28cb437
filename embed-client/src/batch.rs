//! Many texts at once: keeps the worker's batches full without having them all under way.
//!
//! How one text is embedded is its caller's affair.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::embedding::Embedding;
use crate::error::EmbedError;

/// Texts of one call under way at the same time: several of a worker's batches, so that the next one
/// is there when the last one ends, and little enough memory.
const WINDOW_TEXTS: usize = 256;

/// Results in the order of `texts`; see [`crate::Client::embed_many`].
pub(crate) async fn embed_many<F>(
    texts: Vec<Result<String, EmbedError>>,
    embed: impl Fn(String) -> F,
    mut on_done: impl FnMut(usize),
) -> Vec<Result<Embedding, EmbedError>>
where
    F: Future<Output = Result<Embedding, EmbedError>>,
{
    let mut results: Vec<Option<Result<Embedding, EmbedError>>> = Vec::new();
    results.resize_with(texts.len(), || None);
    let mut waiting = texts.into_iter().enumerate();
    let mut under_way = FuturesUnordered::new();
    let mut fault: Option<EmbedError> = None;
    let mut n_done = 0;
    loop {
        while under_way.len() < WINDOW_TEXTS
            && let Some((text_idx, text)) = waiting.next()
        {
            match (&fault, text) {
                (_, Err(error)) => results[text_idx] = Some(Err(error)),
                (Some(fault), Ok(_)) => results[text_idx] = Some(Err(fault.clone())),
                (None, Ok(text)) => {
                    let vector = embed(text);
                    under_way.push(async move { (text_idx, vector.await) });
                    continue;
                }
            }
            n_done += 1;
            on_done(n_done);
        }
        let Some((text_idx, result)) = under_way.next().await else { break };
        if let Err(error) = &result
            && error.concerns_every_text()
        {
            fault.get_or_insert_with(|| error.clone());
        }
        results[text_idx] = Some(result);
        n_done += 1;
        on_done(n_done);
    }
    // Every index was visited exactly once, so none is dropped here.
    results.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use embed_protocol::{ErrorCode, Timings};
    use futures_util::FutureExt;
    use std::cell::Cell;

    fn texts(n: usize) -> Vec<Result<String, EmbedError>> {
        (0..n).map(|text_idx| Ok(text_idx.to_string())).collect()
    }

    fn embedding(text: &str) -> Embedding {
        let vector = vec![text.parse().expect("a number")];
        Embedding {
            vector,
            model: None,
            tokens: 1,
            truncated: false,
            timings: Timings::default(),
            degraded: None,
        }
    }

    fn codes(results: &[Result<Embedding, EmbedError>]) -> Vec<Option<ErrorCode>> {
        results.iter().map(|result| result.as_ref().err().map(EmbedError::code)).collect()
    }

    #[tokio::test]
    async fn results_keep_the_order_of_the_texts_and_progress_counts_them() {
        let mut progress = Vec::new();
        // Even texts take a turn of the scheduler longer than odd ones.
        let embed = async |text: String| {
            if embedding(&text).vector[0] % 2.0 == 0.0 {
                tokio::task::yield_now().await;
            }
            Ok(embedding(&text))
        };
        let results = embed_many(texts(1000), embed, |n_done| progress.push(n_done)).await;
        for (text_idx, result) in results.iter().enumerate() {
            assert_eq!(result.as_ref().expect("embeds").vector, [text_idx as f32]);
        }
        assert_eq!(progress, (1..=1000).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn no_more_than_a_window_is_under_way() {
        let (now, most) = (Cell::new(0), Cell::new(0));
        let embed = async |text: String| {
            now.set(now.get() + 1);
            most.set(most.get().max(now.get()));
            tokio::task::yield_now().await;
            now.set(now.get() - 1);
            Ok(embedding(&text))
        };
        let results = embed_many(texts(1000), embed, |_| ()).await;
        assert_eq!(results.len(), 1000);
        assert_eq!(most.get(), WINDOW_TEXTS);
    }

    #[tokio::test]
    async fn one_bad_text_costs_only_itself() {
        let mut texts = texts(4);
        texts[0] = Err(EmbedError::text_too_long(7));
        let embed = async |text: String| match text.as_str() {
            "2" => Err(EmbedError::new(ErrorCode::Internal, "unlucky")),
            text => Ok(embedding(text)),
        };
        let results = embed_many(texts, embed, |_| ()).await;
        let wanted = [Some(ErrorCode::TextTooLong), None, Some(ErrorCode::Internal), None];
        assert_eq!(codes(&results), wanted);
    }

    #[tokio::test]
    async fn a_fault_of_the_worker_is_not_met_ten_thousand_times() {
        let n_tried = Cell::new(0);
        let embed = async |_| {
            n_tried.set(n_tried.get() + 1);
            tokio::task::yield_now().await;
            Err(EmbedError::new(ErrorCode::ModelInvalid, "no magic"))
        };
        let results = embed_many(texts(10_000), embed, |_| ()).await;
        assert_eq!(codes(&results), vec![Some(ErrorCode::ModelInvalid); 10_000]);
        assert!(n_tried.get() <= WINDOW_TEXTS, "{}", n_tried.get());
    }

    #[test]
    fn no_texts_are_done_at_once() {
        let embed = async |text: String| Ok(embedding(&text));
        assert!(embed_many(Vec::new(), embed, |_| ()).now_or_never().is_some());
    }
}
