//! [`section!`] declares a section of the configuration once. Each key is one entry with its help, name,
//! type, default and range; the macro makes from it the serde struct with its documentation, `Default`, the
//! entry in the list of keys and the check of the range.

use crate::error::{Error, Result};

/// A key of the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Dotted name, for example `train.learning_rate`.
    pub name: &'static str,
    /// The doc comment of the field.
    pub doc: &'static str,
    /// Range of its values, if it is narrower than its type.
    pub range: Option<Range>,
}

impl Key {
    /// The help text: one line, without a full stop.
    pub fn help(&self) -> &'static str {
        self.doc.trim().trim_end_matches('.')
    }

    /// JSON pointer to the key in a configuration tree, for example `/train/seed`.
    pub fn pointer(&self) -> String {
        format!("/{}", self.name.replace('.', "/"))
    }

    /// Name of the section: the part before the last dot, empty if there is none.
    pub fn section(&self) -> &'static str {
        self.name.rsplit_once('.').map_or("", |(section, _)| section)
    }
}

/// Range of numbers that a key accepts. No range includes NaN or an infinity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Range {
    /// Whole numbers from the first to the second, both included.
    Whole(u64, u64),
    /// Any finite number.
    Finite,
    /// The interval (0, ∞).
    Positive,
    /// The interval [0, ∞).
    FromZero,
    /// The interval [1, ∞).
    FromOne,
    /// The interval [0, 1).
    Share,
    /// The interval (0, 1).
    OpenShare,
    /// The interval (0, 1].
    PositiveShare,
}

/// Largest width, length or count in the model or the batch, so that products of a few of them fit in 64
/// bits.
pub const LARGEST_SIZE: usize = 1 << 24;

impl Range {
    /// A width, length or count that is at least 1.
    pub const SIZE: Self = Self::Whole(1, LARGEST_SIZE as u64);
    /// A width, length or count that may be 0.
    pub const COUNT: Self = Self::Whole(0, LARGEST_SIZE as u64);
    /// A whole number, 1 or more.
    pub const AT_LEAST_ONE: Self = Self::Whole(1, u64::MAX);

    /// Checks the value of a key; an absent value is in every range.
    ///
    /// # Errors
    /// [`Error::InvalidValue`], which says what the key accepts.
    pub fn check(self, key: &str, value: &impl Ranged) -> Result<()> {
        match value.number() {
            None => Ok(()),
            Some(Number::Whole(value)) if self.holds(value as f64) && self.holds_whole(value) => Ok(()),
            Some(Number::Real(value)) if self.holds(value) => Ok(()),
            Some(Number::Whole(value)) => Err(Error::invalid_value(key, value, self.expected())),
            Some(Number::Real(value)) => Err(Error::invalid_value(key, value, self.expected())),
        }
    }

    fn holds(self, value: f64) -> bool {
        value.is_finite()
            && match self {
                Self::Whole(..) | Self::Finite => true,
                Self::Positive => value > 0.0,
                Self::FromZero => value >= 0.0,
                Self::FromOne => value >= 1.0,
                Self::Share => (0.0..1.0).contains(&value),
                Self::OpenShare => value > 0.0 && value < 1.0,
                Self::PositiveShare => value > 0.0 && value <= 1.0,
            }
    }

    /// Compares as integers, unlike [`Range::holds`], since a large integer is not exact as a float.
    fn holds_whole(self, value: u64) -> bool {
        match self {
            Self::Whole(low, high) => (low..=high).contains(&value),
            _ => true,
        }
    }

    fn expected(self) -> String {
        let text = match self {
            Self::Whole(low, u64::MAX) => return format!("expected a whole number, {low} or more"),
            Self::Whole(low, high) => return format!("expected a whole number from {low} to {high}"),
            Self::Finite => "expected a finite number",
            Self::Positive => "expected a finite number above 0",
            Self::FromZero => "expected a finite number, 0 or more",
            Self::FromOne => "expected a finite number, 1 or more",
            Self::Share => "expected a number from 0 to below 1",
            Self::OpenShare => "expected a number above 0 and below 1",
            Self::PositiveShare => "expected a number above 0 and at most 1",
        };
        text.into()
    }
}

/// Number that is compared with a range.
pub enum Number {
    Whole(u64),
    Real(f64),
}

/// Types of values that can be checked against a range.
pub trait Ranged {
    /// The value as a number; `None` if the key has no value.
    fn number(&self) -> Option<Number>;
}

impl Ranged for usize {
    fn number(&self) -> Option<Number> {
        Some(Number::Whole(*self as u64))
    }
}

impl Ranged for u64 {
    fn number(&self) -> Option<Number> {
        Some(Number::Whole(*self))
    }
}

impl Ranged for f64 {
    fn number(&self) -> Option<Number> {
        Some(Number::Real(*self))
    }
}

impl<T: Ranged> Ranged for Option<T> {
    fn number(&self) -> Option<Number> {
        self.as_ref()?.number()
    }
}

/// A part of the configuration tree.
pub trait Section {
    /// Appends every key, in the order of the tree.
    fn list_keys(keys: &mut Vec<Key>);

    /// Checks every key that has a range.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] for the first value that is out of its range.
    fn check_ranges(&self) -> Result<()>;
}

/// Declares a section of the configuration:
///
/// ```ignore
/// section! {
///     /// Length and batch.
///     #["train"]
///     pub struct TrainConfig {
///         /// Rows per micro-batch.
///         batch_size: usize = 12, Range::SIZE;
///         /// Seed of initial weights, data order and dropout.
///         seed: u64 = 1337;
///     }
///     sections {
///         /// Sections inside it follow its keys, as in a TOML file.
///         schedule: ScheduleConfig,
///     }
/// }
/// ```
///
/// A key whose type is an `Option` has the default `None`, since a TOML file cannot say otherwise that it has
/// no value.
#[macro_export]
macro_rules! section {
    (@range) => { None };
    (@range $range:expr) => { Some($range) };
    (
        $(#[doc = $about:literal])*
        #[$section:literal]
        $(#[$attribute:meta])*
        pub struct $name:ident {
            $($(#[doc = $help:literal])+ $key:ident: $type:ty = $default:expr $(, $range:expr)?;)*
        }
        $(sections { $($(#[doc = $part_help:literal])+ $part:ident: $part_type:ty,)+ })?
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        $(#[$attribute])*
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($(#[doc = $help])+ pub $key: $type,)*
            $($($(#[doc = $part_help])+ pub $part: $part_type,)+)?
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $($key: $default,)*
                    $($($part: Default::default(),)+)?
                }
            }
        }

        impl $crate::section::Section for $name {
            fn list_keys(keys: &mut Vec<$crate::section::Key>) {
                $(keys.push($crate::section::Key {
                    name: concat!($section, ".", stringify!($key)),
                    doc: concat!($($help),+),
                    range: $crate::section!(@range $($range)?),
                });)*
                $($(<$part_type as $crate::section::Section>::list_keys(keys);)+)?
            }

            fn check_ranges(&self) -> $crate::error::Result<()> {
                $($($range.check(concat!($section, ".", stringify!($key)), &self.$key)?;)?)*
                $($($crate::section::Section::check_ranges(&self.$part)?;)+)?
                Ok(())
            }
        }
    };
}
