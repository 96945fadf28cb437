//! The inner product on registers of 128 bits: 4 rows of weights, a quarter of a panel, and two of
//! those at a time.
//!
//! What NEON with and without dots of bytes shares is all but the dots, so it is written once as a
//! macro: code may not be generic over the instructions that it is compiled for.

/// Two registers: 8 rows, half a panel.
pub(super) type Pair<R> = [R; 2];

/// Defines [`super::Tiles`] for a token type, from a function `dots::<F, T, FROM, TO>(block,
/// half_panel, q)` that gives the integer dots of quads `FROM..TO` of a block.
macro_rules! quarter_panel_tiles {
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
            let mut tile = [[vdupq_n_f32(0.0); 2]; T];
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
                    let d = vdupq_n_f32(meta[t].d[index]);
                    for r in 0..2 {
                        let product = vmulq_f32(vcvtq_f32_s32(dots[t][r]), scales[r]);
                        tile[t][r] = vfmaq_f32(tile[t][r], product, d);
                    }
                }
                if F::MINIMUM {
                    let minimums = floats(&block.minimums[0], half_panel);
                    for t in 0..T {
                        let of_x = vdupq_n_f32(meta[t].sums[index]);
                        for r in 0..2 {
                            tile[t][r] = vfmaq_f32(tile[t][r], minimums[r], of_x);
                        }
                    }
                }
            }
            for pair in 0..blocks.min(BLOCKS).div_ceil(2) {
                let weights = floats(&panel.sums[pair], half_panel);
                for t in 0..T {
                    let m = vdupq_n_f32(meta[t].m[pair]);
                    for r in 0..2 {
                        tile[t][r] = vfmaq_f32(tile[t][r], weights[r], m);
                    }
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
            let mut tile = [[vdupq_n_f32(0.0); 2]; T];
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
                        for r in 0..2 {
                            tile[t][r] =
                                vfmaq_f32(tile[t][r], vcvtq_f32_s32(dots[t][r]), scales[r]);
                        }
                    }
                    if F::MINIMUM {
                        let minimums = floats(&block.minimums[half], half_panel);
                        for t in 0..T {
                            let of_x = if F::HALVES {
                                meta[t].halves[2 * index + half]
                            } else {
                                meta[t].blocks[index]
                            };
                            let of_x = vdupq_n_f32(of_x);
                            for r in 0..2 {
                                tile[t][r] = vfmaq_f32(tile[t][r], minimums[r], of_x);
                            }
                        }
                    }
                }
            }
            let weights = floats(&panel.sums[0], half_panel);
            for t in 0..T {
                let (d, m) = (vdupq_n_f32(meta[t].d), vdupq_n_f32(meta[t].m));
                let mut sum = floats(&sums[t].0[p], half_panel);
                for r in 0..2 {
                    sum[r] = vfmaq_f32(vfmaq_f32(sum[r], tile[t][r], d), weights[r], m);
                }
                store(sum, &mut sums[t].0[p], half_panel);
            }
        }

        /// Half a panel of a quad of columns.
        #[inline]
        #[target_feature(enable = $features)]
        fn bytes(quad: &[i8; 64], half_panel: usize) -> Pair<int8x16_t> {
            let (low, high) = quad[32 * half_panel..][..32].split_at(16);
            // SAFETY: the slice holds 16 bytes, and no alignment is asked for.
            let low = unsafe { vld1q_s8(low.as_ptr()) };
            // SAFETY: as above.
            let high = unsafe { vld1q_s8(high.as_ptr()) };
            [low, high]
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn floats(values: &[f32; ROWS], half_panel: usize) -> Pair<float32x4_t> {
            let (low, high) = values[8 * half_panel..][..8].split_at(4);
            // SAFETY: the slice holds 4 floats, and no alignment is asked for.
            let low = unsafe { vld1q_f32(low.as_ptr()) };
            // SAFETY: as above.
            let high = unsafe { vld1q_f32(high.as_ptr()) };
            [low, high]
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn store([a, b]: Pair<float32x4_t>, to: &mut [f32; ROWS], half_panel: usize) {
            let (low, high) = to[8 * half_panel..][..8].split_at_mut(4);
            // SAFETY: the slice holds 4 floats, and no alignment is asked for.
            unsafe { vst1q_f32(low.as_mut_ptr(), a) };
            // SAFETY: as above.
            unsafe { vst1q_f32(high.as_mut_ptr(), b) };
        }
    };
}
pub(super) use quarter_panel_tiles;
