//! The best path through a word's pieces (Viterbi), with the word streaming through.
//!
//! Equal sums are decided as Hugging Face decides them: candidates come in the order of their
//! start, and a later one must be better, not equal. Sums are made in the same order too, from the
//! word's start, so that they are the same to the last bit.
//!
//! What is kept, whatever the word's length:
//!
//! - Nodes, one for each place where a piece may still end: they reach as far as the longest piece.
//! - Steps, which tell how a path came to its node. Where no piece crosses a place, every path
//!   passes through it, and the best one to it is settled: its ids go out, its steps are dropped.
//!   Between two such places a path needs its first steps only, as many as there is room for ids;
//!   of the others their number is enough. So there are at most as many steps as places that
//!   this many pieces reach: 8 bytes for each byte of the normalised text that the ids cover.

use super::super::ids::Ids;
use super::super::vocab::Vocab;
use super::{Scores, Unigram};

/// How much of a word is collected before it is worked on, beside the longest piece.
const WINDOW_BYTES: usize = 4096;

/// The most bytes of a character.
const CHARACTER_BYTES_MAX: usize = 4;

/// No step: the path starts where the last one was settled.
const NONE: u32 = u32::MAX;

/// The best path to a place in the word.
#[derive(Clone, Copy)]
struct Node {
    /// Whether there is one.
    reached: bool,
    /// Whether it ends in unknown text, to which more is added without a new token.
    unknown: bool,
    score: f64,
    /// Tokens since the last settled place.
    tokens: usize,
    /// Its last token, unless that adds to the unknown text before it.
    token: Option<u32>,
    /// The last step that was kept of the path, but for that token.
    step: u32,
}

impl Node {
    const NOWHERE: Self =
        Self { reached: false, unknown: false, score: 0.0, tokens: 0, token: None, step: NONE };
    const START: Self = Self { reached: true, ..Self::NOWHERE };
}

/// A token of a path, and the step before it.
struct Step {
    id: u32,
    previous: u32,
}

/// Takes the characters of words, gives the ids of their best pieces.
pub(super) struct Lattice<'a> {
    vocab: &'a Vocab,
    scores: &'a Scores,
    unknown: (u32, f64),
    pub(super) ids: Ids<'a>,
    /// What is left of the word, from some place before `at`.
    text: Vec<u8>,
    /// The place under work, in `text`.
    at: usize,
    /// The same in the word.
    place: usize,
    /// The last place in the word that a piece ends at.
    reach: usize,
    /// A ring: the node of a place is at the place modulo the length.
    nodes: Box<[Node]>,
    steps: Vec<Step>,
    /// Scratch: a settled path from its end.
    settled: Vec<u32>,
}

impl<'a> Lattice<'a> {
    pub(super) fn new(model: &'a Unigram, ids: Ids<'a>) -> Self {
        let n_nodes = model.vocab.bytes_max().max(CHARACTER_BYTES_MAX) + 1;
        let mut nodes = vec![Node::NOWHERE; n_nodes.next_power_of_two()].into_boxed_slice();
        nodes[0] = Node::START;
        Self {
            vocab: &model.vocab,
            scores: &model.scores,
            unknown: (model.envelope.unknown, model.unknown_score),
            ids,
            text: Vec::new(),
            at: 0,
            place: 0,
            reach: 0,
            nodes,
            steps: Vec::new(),
            settled: Vec::new(),
        }
    }

    /// Adds a character to the word.
    pub(super) fn push(&mut self, c: char) {
        let mut bytes = [0; CHARACTER_BYTES_MAX];
        self.text.extend(c.encode_utf8(&mut bytes).as_bytes());
        if self.text.len() - self.at >= WINDOW_BYTES + self.nodes.len() {
            // A piece from the last place worked on must not depend on what is still to come.
            while self.text.len() - self.at >= self.nodes.len() {
                self.advance();
            }
            self.text.drain(..self.at);
            self.at = 0;
        }
    }

    /// Ends the word.
    pub(super) fn finish(&mut self) {
        if self.text.is_empty() {
            return;
        }
        while self.at < self.text.len() {
            self.advance();
        }
        let last = self.take_node();
        self.settle(&last);
        self.text.clear();
        (self.at, self.place, self.reach) = (0, 0, 0);
        self.nodes[0] = Node::START;
    }

    /// Tries every piece at the place under work and goes on by a character.
    fn advance(&mut self) {
        let mut node = self.take_node();
        if self.reach == self.place {
            self.settle(&node);
            (node.tokens, node.step) = (0, NONE);
        }
        let rest = &self.text[self.at..];
        let n_bytes = character_bytes(rest);
        let (vocab, scores) = (self.vocab, self.scores);
        let mut paths = Paths { place: self.place, node, nodes: &mut self.nodes };
        let (mut known, mut longest) = (false, n_bytes);
        vocab.prefixes(rest, |id, bytes| {
            known |= bytes == n_bytes;
            longest = longest.max(bytes);
            paths.offer(bytes, id, f64::from(scores.get(vocab, id)), false);
        });
        if !known {
            let (id, score) = self.unknown;
            paths.offer(n_bytes, id, score, true);
        }
        self.reach = self.reach.max(self.place + longest);
        self.at += n_bytes;
        self.place += n_bytes;
    }

    /// The node of the place under work, with its last token among the steps.
    fn take_node(&mut self) -> Node {
        let mask = self.nodes.len() - 1;
        let mut node = std::mem::replace(&mut self.nodes[self.place & mask], Node::NOWHERE);
        if let Some(id) = node.token.take()
            && node.tokens <= self.ids.room()
        {
            let step = self.steps.len() as u32;
            self.steps.push(Step { id, previous: node.step });
            node.step = step;
        }
        node
    }

    /// Gives out the path to `node`, which every path goes through.
    fn settle(&mut self, node: &Node) {
        let mut step = node.step;
        while let Some(Step { id, previous }) = self.steps.get(step as usize) {
            self.settled.push(*id);
            step = *previous;
        }
        self.ids.count(node.tokens - self.settled.len());
        while let Some(id) = self.settled.pop() {
            self.ids.push(id);
        }
        self.steps.clear();
    }
}

/// The paths that go on from a node.
struct Paths<'a> {
    place: usize,
    node: Node,
    nodes: &'a mut [Node],
}

impl Paths<'_> {
    /// Goes on by `n_bytes` with token `id`, if no path to there is as good.
    fn offer(&mut self, n_bytes: usize, id: u32, score: f64, unknown: bool) {
        let mask = self.nodes.len() - 1;
        let target = &mut self.nodes[(self.place + n_bytes) & mask];
        let score = score + self.node.score;
        if target.reached && score <= target.score {
            return;
        }
        *target = Node { unknown, score, ..self.node };
        if !(unknown && self.node.unknown) {
            target.token = Some(id);
            target.tokens += 1;
        }
    }
}

/// The bytes of the character that `text` starts with.
fn character_bytes(text: &[u8]) -> usize {
    match text.first() {
        None | Some(0..=0xBF) => 1,
        Some(0xC0..=0xDF) => 2,
        Some(0xE0..=0xEF) => 3,
        Some(0xF0..) => 4,
    }
}
