//! The inner product on registers of 256 bits: 8 rows of weights, half a panel.
//!
//! What AVX2 and AVX-VNNI share is all but the dots, so it is written once as a macro: code may not be
//! generic over the instructions that it is compiled for.

/// Defines [`super::Tiles`] for a token type, from a function `dots::<F, T, FROM, TO>(block,
/// half_panel, q)` that gives the integer dots of quads `FROM..TO` of a block.
macro_rules! half_panel_tiles {
    ($token:ty, $features:literal, $dots:ident) => {
        /// See [`super::portable`], whose bits these are.
        impl<const T: usize> Tiles<T> for $token {
            #[inline]
            fn small<F: Format>(
                self,
                slice: Slice<'_>,
                rows: Rows<'_, Small, T>,
                sums: &mut [Sums; T],
            ) {
                for part in 0..PARTS {
                    rows.ahead.ask(part);
                    // SAFETY: the token exists, so the processor has these features.
                    unsafe { small::<F, T>(slice, (part / 2, part % 2), rows, sums) }
                }
            }

            #[inline]
            fn large<F: Format>(
                self,
                slice: Slice<'_>,
                rows: Rows<'_, Large, T>,
                sums: &mut [Sums; T],
            ) {
                for part in 0..PARTS {
                    rows.ahead.ask(part);
                    // SAFETY: the token exists, so the processor has these features.
                    unsafe { large::<F, T>(slice, (part / 2, part % 2), rows, sums) }
                }
            }
        }

        #[target_feature(enable = $features)]
        fn small<F: Format, const T: usize>(
            Slice { panels, blocks }: Slice<'_>,
            (p, half_panel): (usize, usize),
            Rows { values, meta, .. }: Rows<'_, Small, T>,
            sums: &mut [Sums; T],
        ) {
            let panel = &panels[p];
            let mut tile = [_mm256_setzero_ps(); T];
            for t in 0..T {
                tile[t] = floats(&sums[t].0[p], half_panel);
            }
            for index in 0..blocks.min(BLOCKS) {
                let block = &panel.blocks[index];
                let mut q = [&values[0][index]; T];
                for t in 1..T {
                    q[t] = &values[t][index];
                }
                let dots = $dots::<F, T, 0, 8>(block, half_panel, q);
                let scales = floats(&block.scales[0], half_panel);
                for t in 0..T {
                    let product = _mm256_mul_ps(_mm256_cvtepi32_ps(dots[t]), scales);
                    let d = _mm256_set1_ps(meta[t].d[index]);
                    tile[t] = _mm256_fmadd_ps(product, d, tile[t]);
                }
                if F::MINIMUM {
                    let minimums = floats(&block.minimums[0], half_panel);
                    for t in 0..T {
                        let of_x = _mm256_set1_ps(meta[t].sums[index]);
                        tile[t] = _mm256_fmadd_ps(minimums, of_x, tile[t]);
                    }
                }
            }
            for pair in 0..blocks.min(BLOCKS).div_ceil(2) {
                let weights = floats(&panel.sums[pair], half_panel);
                for t in 0..T {
                    let m = _mm256_set1_ps(meta[t].m[pair]);
                    tile[t] = _mm256_fmadd_ps(weights, m, tile[t]);
                }
            }
            for t in 0..T {
                store(tile[t], &mut sums[t].0[p], half_panel);
            }
        }

        #[target_feature(enable = $features)]
        fn large<F: Format, const T: usize>(
            Slice { panels, blocks }: Slice<'_>,
            (p, half_panel): (usize, usize),
            Rows { values, meta, .. }: Rows<'_, Large, T>,
            sums: &mut [Sums; T],
        ) {
            let panel = &panels[p];
            let mut tile = [_mm256_setzero_ps(); T];
            for index in 0..blocks.min(BLOCKS) {
                let block = &panel.blocks[index];
                let mut q = [&values[0][index]; T];
                for t in 1..T {
                    q[t] = &values[t][index];
                }
                for half in 0..if F::HALVES { 2 } else { 1 } {
                    let dots = match (F::HALVES, half) {
                        (false, _) => $dots::<F, T, 0, 8>(block, half_panel, q),
                        (true, 0) => $dots::<F, T, 0, 4>(block, half_panel, q),
                        (true, _) => $dots::<F, T, 4, 8>(block, half_panel, q),
                    };
                    let scales = floats(&block.scales[half], half_panel);
                    for t in 0..T {
                        let dot = _mm256_cvtepi32_ps(dots[t]);
                        tile[t] = _mm256_fmadd_ps(dot, scales, tile[t]);
                    }
                    if F::MINIMUM {
                        let minimums = floats(&block.minimums[half], half_panel);
                        for t in 0..T {
                            let of_x = if F::HALVES {
                                meta[t].halves[2 * index + half]
                            } else {
                                meta[t].blocks[index]
                            };
                            let of_x = _mm256_set1_ps(of_x);
                            tile[t] = _mm256_fmadd_ps(minimums, of_x, tile[t]);
                        }
                    }
                }
            }
            let weights = floats(&panel.sums[0], half_panel);
            for t in 0..T {
                let (d, m) = (_mm256_set1_ps(meta[t].d), _mm256_set1_ps(meta[t].m));
                let sum = _mm256_fmadd_ps(tile[t], d, floats(&sums[t].0[p], half_panel));
                store(_mm256_fmadd_ps(weights, m, sum), &mut sums[t].0[p], half_panel);
            }
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn bytes(quad: &[i8; 64], half_panel: usize) -> __m256i {
            let half = &quad[32 * half_panel..][..32];
            // SAFETY: the slice holds 32 bytes, and no alignment is asked for.
            unsafe { _mm256_loadu_si256(half.as_ptr().cast()) }
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn floats(values: &[f32; ROWS], half_panel: usize) -> __m256 {
            let half = &values[8 * half_panel..][..8];
            // SAFETY: the slice holds 8 floats, and no alignment is asked for.
            unsafe { _mm256_loadu_ps(half.as_ptr()) }
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn store(value: __m256, to: &mut [f32; ROWS], half_panel: usize) {
            let half = &mut to[8 * half_panel..][..8];
            // SAFETY: the slice holds 8 floats, and no alignment is asked for.
            unsafe { _mm256_storeu_ps(half.as_mut_ptr(), value) }
        }
    };
}
pub(super) use half_panel_tiles;
