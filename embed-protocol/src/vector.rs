//! A vector as bytes: little-endian IEEE binary32, four bytes an element, nothing else.

/// Bytes of one element.
const ELEMENT_BYTES: usize = size_of::<f32>();

/// `values` as the bytes that travel.
pub fn to_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The values in `bytes`, or `None` if they are not a whole number of elements.
pub fn from_bytes(bytes: &[u8]) -> Option<Vec<f32>> {
    let (elements, rest) = bytes.as_chunks::<ELEMENT_BYTES>();
    rest.is_empty().then(|| elements.iter().map(|element| f32::from_le_bytes(*element)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_survives() {
        let values = [0.0, -0.0, 1.0, f32::MIN_POSITIVE, f32::from_bits(1), f32::MAX, -0.1];
        let back = from_bytes(&to_bytes(&values)).expect("whole elements");
        assert_eq!(
            values.map(f32::to_bits).to_vec(),
            back.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
        );
    }

    #[test]
    fn the_order_is_little_endian() {
        assert_eq!(to_bytes(&[1.0]), [0x00, 0x00, 0x80, 0x3f]);
    }

    #[test]
    fn a_torn_element_is_refused() {
        assert_eq!(from_bytes(&[0; 5]), None);
        assert_eq!(from_bytes(&[]), Some(Vec::new()));
    }
}
