//! Amounts of money in the smallest unit of their currency.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Money {
    minor: i64,
    currency: Currency,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Currency {
    Eur,
    Usd,
    Jpy,
}

impl Currency {
    /// Digits after the point: the yen has none.
    fn digits(self) -> u32 {
        match self {
            Self::Eur | Self::Usd => 2,
            Self::Jpy => 0,
        }
    }
}

impl Money {
    /// The sum, or nothing if the two are of different currencies or it overflows.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        if self.currency != other.currency {
            return None;
        }
        Some(Self { minor: self.minor.checked_add(other.minor)?, ..self })
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = 10_i64.pow(self.currency.digits());
        write!(f, "{}.{:02} {:?}", self.minor / unit, self.minor % unit, self.currency)
    }
}
