//! The memory of one micro-batch as it passes forward and backward: every operation saves tensors for its backward
//! pass, and in reverse order frees them again and leaves gradients of parameters.

use std::ops::{Add, AddAssign, Mul, Sub};

/// Smallest buffer, in bytes, that the CPU's allocator maps by itself and gives back (`src/memory.rs`).
pub const LARGE: u128 = 2 << 20;

/// Bytes of some tensors, those of large and of small buffers apart. The allocator gives back only large ones: freed
/// small ones stay for small ones, so both reach their peaks at different times and the peaks add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bytes {
    pub large: u128,
    pub small: u128,
}

impl Bytes {
    /// A tensor of so many bytes.
    pub fn of(tensor: u128) -> Self {
        match tensor >= LARGE {
            true => Self { large: tensor, small: 0 },
            false => Self { large: 0, small: tensor },
        }
    }

    pub fn total(self) -> u128 {
        self.large.saturating_add(self.small)
    }

    /// The larger of each kind.
    pub fn max(self, other: Self) -> Self {
        Self { large: self.large.max(other.large), small: self.small.max(other.small) }
    }
}

impl Add for Bytes {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { large: self.large.saturating_add(other.large), small: self.small.saturating_add(other.small) }
    }
}

impl AddAssign for Bytes {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Bytes {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self { large: self.large.saturating_sub(other.large), small: self.small.saturating_sub(other.small) }
    }
}

impl Mul<u128> for Bytes {
    type Output = Self;
    fn mul(self, count: u128) -> Self {
        Self { large: self.large.saturating_mul(count), small: self.small.saturating_mul(count) }
    }
}

impl std::iter::Sum for Bytes {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Self::add)
    }
}

/// Memory of one operation.
#[derive(Debug, Clone, Copy, Default)]
pub struct Operation {
    /// Tensors that it saves from the forward until the end of its backward pass.
    pub saved: Bytes,
    /// Memory beside saved tensors while it computes forward.
    pub forward: Bytes,
    /// Memory beside saved tensors and finished gradients while it computes backward: the gradients that flow in
    /// and out, and temporary tensors.
    pub backward: Bytes,
    /// Gradients of parameters that it leaves.
    pub gradients: Bytes,
    /// Whether these gradients are computed in the forward pass already.
    pub gradients_are_early: bool,
}

/// Operations in a row, whose saved tensors are kept or computed again together.
#[derive(Debug, Clone)]
pub struct Part {
    pub operations: Vec<Operation>,
    /// Memory that is kept until the backward pass if the operations are computed again there.
    pub recomputed_from: Option<Bytes>,
}

impl Part {
    pub fn kept(operations: Vec<Operation>) -> Self {
        Self { operations, recomputed_from: None }
    }

    pub fn recomputed(operations: Vec<Operation>, from: Bytes) -> Self {
        Self { operations, recomputed_from: Some(from) }
    }

    /// Memory between the forward and the backward pass.
    fn between(&self) -> Bytes {
        self.recomputed_from.unwrap_or_else(|| self.saved())
    }

    fn saved(&self) -> Bytes {
        self.operations.iter().map(|operation| operation.saved).sum()
    }
}

/// Parts that occur `count` times in a row, such as those of a block.
#[derive(Debug, Clone)]
pub struct Group {
    pub parts: Vec<Part>,
    pub count: u128,
}

impl Group {
    pub fn once(operation: Operation) -> Self {
        Self { parts: vec![Part::kept(vec![operation])], count: 1 }
    }

    /// Memory of one repetition between its forward and its backward pass.
    fn between(&self) -> Bytes {
        self.parts.iter().map(Part::between).sum()
    }

    /// Gradients of parameters that one repetition leaves: early ones, or those of the backward pass.
    fn gradients(&self, early: bool) -> Bytes {
        let operations = self.parts.iter().flat_map(|part| &part.operations);
        let those = operations.filter(|operation| operation.gradients_are_early == early);
        those.map(|operation| operation.gradients).sum()
    }
}

/// Memory at the moment when a micro-batch needs the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Peak {
    /// The most bytes in large and in small buffers, which need not be at the same time.
    pub most: Bytes,
    /// The most bytes in both together.
    together: u128,
    /// Saved tensors at the moment of the most bytes together.
    pub saved: u128,
    /// Gradients of parameters then.
    pub gradients: u128,
    /// Whether that is in the forward pass.
    pub is_forward: bool,
}

impl Peak {
    fn observe(&mut self, saved: Bytes, gradients: Bytes, beside: Bytes, is_forward: bool) {
        let all = saved + gradients + beside;
        self.most = self.most.max(all);
        if all.total() > self.together {
            self.together = all.total();
            (self.saved, self.gradients, self.is_forward) = (saved.total(), gradients.total(), is_forward);
        }
    }
}

/// Passes forward and backward over all operations, in the order of the forward pass. `earlier` are the gradients of
/// earlier micro-batches, if there are some: to these, new ones are added as soon as they are there.
pub fn peak(groups: &[Group], earlier: Option<Bytes>) -> Peak {
    let mut peak = Peak::default();
    let (mut saved, mut gradients) = (Bytes::default(), earlier.unwrap_or_default());
    for group in groups {
        let mut live = saved + group.between() * group.count.saturating_sub(1);
        for part in &group.parts {
            let mut within = live;
            for operation in &part.operations {
                within += operation.saved;
                if operation.gradients_are_early {
                    gradients += operation.gradients;
                }
                peak.observe(within, gradients, operation.forward, true);
            }
            live += part.between();
        }
        saved += group.between() * group.count;
    }
    for group in groups.iter().rev() {
        // Of new gradients those stay that are not added to others.
        let late = if earlier.is_some() { Bytes::default() } else { group.gradients(false) };
        // From one repetition to the next memory changes by as much each time, so it is largest at an end.
        for index in [group.count.saturating_sub(1), 0] {
            let done = group.count.saturating_sub(index + 1);
            let mut live = saved - group.between() * done;
            let mut left = gradients + late * done;
            for part in group.parts.iter().rev() {
                live = live - part.between();
                let mut within = live + part.saved();
                for operation in part.operations.iter().rev() {
                    let early = operation.gradients_are_early;
                    let new = if early { Bytes::default() } else { operation.gradients };
                    peak.observe(within, left + new, operation.backward, false);
                    within = within - operation.saved;
                    left += if earlier.is_some() { Bytes::default() } else { new };
                }
            }
        }
        saved = saved - group.between() * group.count;
        gradients += late * group.count;
        if earlier.is_some() {
            gradients = gradients - group.gradients(true) * group.count;
        }
    }
    peak
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(saved: u128, backward: u128, gradients: u128) -> Operation {
        let [saved, backward, gradients] = [saved, backward, gradients].map(Bytes::of);
        Operation { saved, backward, gradients, ..Default::default() }
    }

    fn block(count: u128, recomputed_from: Option<u128>) -> Group {
        let operations = vec![operation(100, 30, 5), operation(50, 70, 8)];
        let part = Part { operations, recomputed_from: recomputed_from.map(Bytes::of) };
        Group { parts: vec![part], count }
    }

    #[test]
    fn saved_tensors_are_freed_while_gradients_grow() {
        // The last operation of the last block: all is saved, its gradient is new.
        let found = peak(&[block(4, None)], None);
        assert_eq!((found.most.total(), found.saved, found.gradients), (600 + 70 + 8, 600, 8));
        // With large gradients the first operation of the first block is the peak.
        let large = Group { parts: vec![Part::kept(vec![operation(10, 1, 90)])], count: 3 };
        let found = peak(&[large], None);
        assert_eq!((found.most.total(), found.saved, found.gradients), (10 + 270 + 1, 10, 270));
    }

    #[test]
    fn of_what_is_computed_again_only_the_input_is_kept() {
        let found = peak(&[block(4, Some(10))], None);
        // The peak is in the first block, when the gradients of the other three are there.
        assert_eq!((found.most.total(), found.saved), (150 + 3 * 13 + 70 + 8, 150));
        assert_eq!(peak(&[block(1, Some(10))], None), peak(&[block(1, None)], None));
        // Of two parts in a block, one is computed again.
        let [kept, again] = [operation(100, 0, 0), operation(50, 0, 0)].map(|operation| vec![operation]);
        let parts = vec![Part::kept(kept), Part::recomputed(again, Bytes::of(10))];
        assert_eq!(peak(&[Group { parts, count: 3 }], None).saved, 3 * 110 - 10 + 50);
    }

    #[test]
    fn gradients_may_be_there_before_the_backward_pass() {
        let early = Operation { forward: Bytes::of(40), gradients_are_early: true, ..operation(10, 0, 500) };
        let groups = [block(1, None), Group::once(early)];
        let found = peak(&groups, None);
        assert_eq!((found.most.total(), found.gradients), (150 + 10 + 500 + 70 + 8 - 10, 508));
        // Added to others at the end of the operation, they are gone; the others are always there.
        let found = peak(&groups, Some(Bytes::of(600)));
        assert_eq!((found.most.total(), found.gradients), (150 + 10 + 40 + 1100, 1100));
    }

    #[test]
    fn gradients_that_are_added_to_others_stay_one_at_a_time() {
        let found = peak(&[block(4, None)], Some(Bytes::of(1000)));
        assert_eq!((found.most.total(), found.gradients), (600 + 70 + 1008, 1008));
        let large = Group { parts: vec![Part::kept(vec![operation(10, 1, 90)])], count: 3 };
        assert_eq!(peak(&[large], Some(Bytes::of(270))).most.total(), 30 + 270 + 90 + 1);
    }

    #[test]
    fn small_buffers_do_not_make_room_for_large_ones() {
        let many = Group { parts: vec![Part::kept(vec![operation(1 << 20, 0, 0)])], count: 4 };
        let one = Group::once(operation(0, 0, 3 << 20));
        // The large gradient comes when the small tensors are freed.
        let found = peak(&[one, many], None);
        assert_eq!(found.most, Bytes { large: 3 << 20, small: 4 << 20 });
    }
}
