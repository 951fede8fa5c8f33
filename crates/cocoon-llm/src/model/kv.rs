//! The keys and values of one sequence.
//!
//! Allocated once, at its full size, and handed from request to request: no request ever shares
//! one with another, and [`KvCache::clear`] overwrites what the last one left. Only choices of one
//! request copy from each other, what they have in common: [`KvCache::copy_from`].

use crate::model::Config;

/// Keys and values of every layer and head, `[layer][head][position][element]`.
pub(crate) struct KvCache {
    keys: Vec<f32>,
    values: Vec<f32>,
    heads: usize,
    head_width: usize,
    capacity: usize,
    len: usize,
}

impl KvCache {
    /// Reserves room for `capacity` tokens; the system backs it with memory as it fills.
    pub(crate) fn new(config: &Config, capacity: usize) -> Self {
        let elements = config.layers * config.kv_width() * capacity;
        Self {
            keys: vec![0.0; elements],
            values: vec![0.0; elements],
            heads: config.kv_heads,
            head_width: config.head_width,
            capacity,
            len: 0,
        }
    }

    /// Bytes that one token takes.
    pub(crate) fn bytes_per_token(config: &Config) -> u64 {
        2 * (config.layers * config.kv_width() * size_of::<f32>()) as u64
    }

    /// Tokens it holds.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Tokens it can hold.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Makes the `n` positions after the last count as held; all layers must have written them.
    pub(crate) fn advance(&mut self, n: usize) {
        self.len += n;
        assert!(self.len <= self.capacity, "the caller checks the room before a step");
    }

    /// Writes one token's keys and values of `layer`, all heads, at `position`.
    pub(crate) fn write(&mut self, layer: usize, position: usize, keys: &[f32], values: &[f32]) {
        for head in 0..self.heads {
            let from = head * self.head_width..(head + 1) * self.head_width;
            let start = self.start(layer, head) + position * self.head_width;
            let to = start..start + self.head_width;
            self.keys[to.clone()].copy_from_slice(&keys[from.clone()]);
            self.values[to].copy_from_slice(&values[from]);
        }
    }

    /// Keys and values of the first `len` positions of one head, each `len × head_width`.
    pub(crate) fn head(&self, layer: usize, head: usize, len: usize) -> (&[f32], &[f32]) {
        let start = self.start(layer, head);
        let range = start..start + len * self.head_width;
        (&self.keys[range.clone()], &self.values[range])
    }

    /// Overwrites everything that was written. `written` counts the positions of a step that was
    /// given up half way, which [`Self::len`] does not know.
    pub(crate) fn clear(&mut self, written: usize) {
        self.cut(0, written);
    }

    /// Overwrites everything but the first `len` positions; `written` is as for [`Self::clear`].
    pub(crate) fn cut(&mut self, len: usize, written: usize) {
        let kept = len.min(self.len);
        let used = self.len.max(written).min(self.capacity) * self.head_width;
        for store in [&mut self.keys, &mut self.values] {
            for head in store.chunks_exact_mut(self.capacity * self.head_width) {
                head[kept * self.head_width..used].fill(0.0);
            }
        }
        self.len = kept;
    }

    /// Makes this blank cache hold the first `len` positions of another of the same model.
    pub(crate) fn copy_from(&mut self, other: &Self, len: usize) {
        assert!(len <= other.len && len <= self.capacity, "a prompt is copied from a cache that holds it");
        let (width, used) = (self.capacity * self.head_width, len * self.head_width);
        let from_width = other.capacity * other.head_width;
        for (to, from) in [(&mut self.keys, &other.keys), (&mut self.values, &other.values)] {
            for (to, from) in to.chunks_exact_mut(width).zip(from.chunks_exact(from_width)) {
                to[..used].copy_from_slice(&from[..used]);
            }
        }
        self.len = len;
    }

    fn start(&self, layer: usize, head: usize) -> usize {
        (layer * self.heads + head) * self.capacity * self.head_width
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> KvCache {
        let config = Config {
            layers: 2,
            width: 32,
            heads: 4,
            kv_heads: 2,
            head_width: 8,
            feed_forward_width: 32,
            vocabulary: 10,
            context_tokens: 5,
            norm_epsilon: 1e-5,
            rope_width: 8,
            rope_base: 1e4,
        };
        KvCache::new(&config, 5)
    }

    #[test]
    fn what_is_written_is_read() {
        let mut cache = cache();
        let (keys, values): (Vec<f32>, Vec<f32>) = (0..16).map(|i| (i as f32, i as f32 + 100.0)).unzip();
        cache.write(1, 2, &keys, &values);
        let (head_keys, head_values) = cache.head(1, 1, 3);
        assert_eq!(head_keys[16..], keys[8..]);
        assert_eq!(head_values[16..], values[8..]);
    }

    #[test]
    fn a_copy_holds_the_prompt_and_nothing_of_what_came_after() {
        let (mut first, mut second) = (cache(), cache());
        for position in 0..4 {
            for layer in 0..2 {
                first.write(layer, position, &[position as f32 + 1.0; 16], &[7.0; 16]);
            }
        }
        first.advance(4);
        second.copy_from(&first, 2);
        assert_eq!(second.len(), 2);
        first.cut(2, 4);
        assert_eq!((first.len(), &first.keys, &first.values), (2, &second.keys, &second.values));
        assert_eq!(second.head(1, 0, 3).0.iter().sum::<f32>(), 8.0 + 16.0);
    }

    #[test]
    fn nothing_is_left_after_clearing_even_of_a_step_given_up_half_way() {
        let mut cache = cache();
        for position in 0..4 {
            for layer in 0..2 {
                cache.write(layer, position, &[1.0; 16], &[2.0; 16]);
            }
        }
        cache.advance(1);
        cache.clear(cache.len() + 3);
        assert_eq!(cache.len(), 0);
        assert!(cache.keys.iter().chain(&cache.values).all(|value| *value == 0.0));
    }
}
