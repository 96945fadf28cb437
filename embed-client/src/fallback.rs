//! What callers get who asked for something rather than nothing when no worker can be had.
//!
//! A hash embedding: every word and every three letters of a word add or take one at a place that
//! their hash chooses (feature hashing: Weinberger et al., 2009, arXiv:0902.2206). Texts that share
//! words are near each other; texts that only mean the same are not.
//! It is deterministic on every machine, of unit length, and never to be kept beside the model's own.

/// The hash embedding of `text`, of unit length: `[dimensions]`.
pub(crate) fn hash_embedding(text: &str, dimensions: usize) -> Vec<f32> {
    let mut vector = vec![0.0; dimensions];
    let mut add = |feature: &str| {
        let hash = fnv1a(feature.as_bytes());
        // The lowest bit is the sign, the others the place.
        let place = (hash >> 1) % dimensions as u64;
        vector[place as usize] += if hash & 1 == 0 { 1.0 } else { -1.0 };
    };
    let text = text.to_lowercase();
    for word in text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty())
    {
        add(word);
        // Marked at both ends, so that the letters of a beginning are not those of a middle.
        let letters: Vec<char> = format!("<{word}>").chars().collect();
        for three in letters.windows(3) {
            add(&three.iter().collect::<String>());
        }
    }
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|value| *value /= length);
    } else {
        // No words, or words that cancel each other: still a direction of its own.
        vector[(fnv1a(text.as_bytes()) % dimensions as u64) as usize] = 1.0;
    }
    vector
}

/// FNV-1a, 64 bits (draft-eastlake-fnv), with its upper half folded into the lower, which alone is
/// too regular to choose a place by.
fn fnv1a(bytes: &[u8]) -> u64 {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cosine(a: &str, b: &str) -> f32 {
        let (a, b) = (hash_embedding(a, 384), hash_embedding(b, 384));
        a.iter().zip(&b).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn every_text_has_a_vector_of_unit_length() {
        for text in ["", " ", "\0", "a", "hello world", "ß", "世界", "🦀", &"x ".repeat(100_000)]
        {
            for dimensions in [1, 2, 384, 16_000] {
                let vector = hash_embedding(text, dimensions);
                assert_eq!(vector.len(), dimensions);
                let length = vector.iter().map(|value| value * value).sum::<f32>();
                assert!((length - 1.0).abs() < 1e-4, "{text:?}: {length}");
            }
        }
    }

    #[test]
    fn it_is_the_same_on_every_machine() {
        let places: Vec<_> = hash_embedding("Hello", 64)
            .into_iter()
            .enumerate()
            .filter(|(_, value)| *value != 0.0)
            .map(|(place, value)| (place, value > 0.0))
            .collect();
        // Computed from the description above by another program.
        let wanted = [(3, false), (27, false), (38, false), (39, false), (46, true), (48, true)];
        assert_eq!(places, wanted);
    }

    #[test]
    fn texts_that_share_words_are_nearer_than_others() {
        let text = "the worker restarts by itself when it is killed";
        assert!(cosine(text, "The worker restarts by itself when killed.") > 0.8);
        assert!(cosine(text, "restarting workers") > cosine(text, "green apples and pears"));
        assert!(cosine(text, "green apples and pears") < 0.3);
    }
}
