//! The media sections of a body: those of an ordinary one lie in the body
//! itself, so that to read it allocates nothing.

use std::fmt;
use std::ops::{Deref, DerefMut};

use super::Media;

/// So many sections need no allocation: sound, picture, slides and far-end control.
const INLINE: usize = 4;

/// Media sections in order; to its users a slice.
#[derive(Clone)]
pub struct MediaList<'a> {
    /// The first `count` count, as long as there is nothing in `all`.
    inline: [Media<'a>; INLINE],
    count: usize,
    /// All of them, once they are more than fit in `inline`.
    all: Vec<Media<'a>>,
}

impl<'a> MediaList<'a> {
    pub(super) const EMPTY: Self = Self { inline: [Media::EMPTY; INLINE], count: 0, all: Vec::new() };

    pub(super) fn push(&mut self, media: Media<'a>) {
        if self.all.is_empty() {
            if let Some(slot) = self.inline.get_mut(self.count) {
                *slot = media;
                self.count += 1;
                return;
            }
            self.all.extend_from_slice(&self.inline);
        }
        self.all.push(media);
    }
}

impl<'a> Deref for MediaList<'a> {
    type Target = [Media<'a>];

    fn deref(&self) -> &[Media<'a>] {
        if self.all.is_empty() { &self.inline[..self.count] } else { &self.all }
    }
}

impl<'a> DerefMut for MediaList<'a> {
    fn deref_mut(&mut self) -> &mut [Media<'a>] {
        if self.all.is_empty() { &mut self.inline[..self.count] } else { &mut self.all }
    }
}

impl<'l, 'a> IntoIterator for &'l MediaList<'a> {
    type Item = &'l Media<'a>;
    type IntoIter = std::slice::Iter<'l, Media<'a>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Debug for MediaList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
