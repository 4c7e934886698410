//! The E-model (ITU-T G.107), simplified for a path whose acoustics are not
//! known: R = 93.2 − Id − Ie,eff. 93.2 is what all other terms give with their
//! defaults (G.107 §7.7).
//!
//! Id, the loss by delay, is the approximation of Cole and Rosenbluth, "Voice
//! over IP performance monitoring" (2001): Id = 0.024 d + 0.11 (d − 177.3) for
//! what is over 177.3 ms. Ie,eff is G.107 §7.5 with random loss (BurstR = 1),
//! its Ie and Bpl from G.113 Appendix I. MOS is G.107 Annex B.
//!
//! A planning model, not an ear: good for comparing calls, not for a judgement of one.

use super::Codec;

/// R without any impairment of ours.
const BEST: f64 = 93.2;

/// Ie and Bpl of a codec (G.113 Appendix I), or `None` where that gives none.
///
/// G.711 counts as with packet loss concealment (Bpl 25.1; 4.3 without), which
/// is what phones of today do. Wideband codecs are rated on another scale
/// (G.107.1); here, on the narrowband scale, G.722 and Opus count as G.711 with
/// concealment: no better, though they sound so.
pub fn impairment(codec: Codec) -> Option<(f64, f64)> {
    match codec {
        Codec::Pcmu | Codec::Pcma | Codec::G722 | Codec::Opus => Some((0.0, 25.1)),
        Codec::G729 => Some((11.0, 19.0)),
        Codec::G723 => Some((15.0, 16.1)),
        // At 12.2 kbit/s it is GSM-EFR.
        Codec::Amr => Some((5.0, 10.0)),
        Codec::Gsm | Codec::Ilbc | Codec::AmrWb | Codec::Speex | Codec::Event | Codec::Noise | Codec::Other => None,
    }
}

/// Ie,eff (G.107 §7.5). `loss`: share of packets, 0 to 1.
pub fn effective((ie, bpl): (f64, f64), loss: f64) -> f64 {
    let percent = 100.0 * loss.clamp(0.0, 1.0);
    ie + (95.0 - ie) * percent / (percent + bpl)
}

/// Id of a mouth-to-ear delay in milliseconds.
pub fn delay(ms: f64) -> f64 {
    0.024 * ms + 0.11 * (ms - 177.3).max(0.0)
}

/// R of a path.
pub fn rating(codec: (f64, f64), loss: f64, delay_ms: f64) -> f64 {
    BEST - delay(delay_ms) - effective(codec, loss)
}

/// The mean opinion score that belongs to an R (G.107 Annex B), 1 to 4.5.
pub fn mos(r: f64) -> f64 {
    if r <= 0.0 {
        1.0
    } else if r >= 100.0 {
        4.5
    } else {
        // Below R = 6.5 the curve dips under 1, which is no score.
        (1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6).max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, wanted: f64, within: f64) {
        assert!((found - wanted).abs() <= within, "{found}, not {wanted}");
    }

    /// G.107 Table B.1: R and MOS at the bounds of the classes of G.109; and 93.2, the default of all terms.
    #[test]
    fn scores_of_the_table_in_g_107() {
        for (r, score) in [(93.2, 4.41), (90.0, 4.34), (80.0, 4.03), (70.0, 3.60), (60.0, 3.10), (50.0, 2.58)] {
            near(mos(r), score, 0.01);
        }
        for (r, score) in [(-10.0, 1.0), (0.0, 1.0), (3.0, 1.0), (100.0, 4.5), (120.0, 4.5)] {
            near(mos(r), score, 1e-9);
        }
    }

    /// G.113 Appendix I, by the formula of G.107 §7.5.
    #[test]
    fn impairment_by_loss() {
        let g711 = impairment(Codec::Pcmu).unwrap();
        let g729 = impairment(Codec::G729).unwrap();
        for (codec, loss, expected) in [
            (g711, 0.0, 0.0),
            (g711, 0.01, 3.64),
            (g711, 0.05, 15.78),
            ((0.0, 4.3), 0.01, 17.92),
            (g729, 0.0, 11.0),
            (g729, 0.01, 15.2),
            (g729, 0.03, 22.45),
        ] {
            near(effective(codec, loss), expected, 0.01);
        }
        near(effective(g711, 7.0), effective(g711, 1.0), 1e-9);
    }

    /// Cole and Rosenbluth: gentle up to 177.3 ms, steep beyond; 150 ms is the bound of G.114.
    #[test]
    fn impairment_by_delay() {
        for (ms, expected) in [(0.0, 0.0), (100.0, 2.4), (150.0, 3.6), (177.3, 4.255), (300.0, 20.697), (400.0, 34.097)]
        {
            near(delay(ms), expected, 0.001);
        }
    }

    /// What everybody quotes: G.711 on a clean, near path 4.4; G.729 4.1; neither stays good with loss and delay.
    #[test]
    fn whole_paths() {
        let g711 = impairment(Codec::Pcma).unwrap();
        let g729 = impairment(Codec::G729).unwrap();
        near(mos(rating(g711, 0.0, 0.0)), 4.41, 0.005);
        near(mos(rating(g729, 0.0, 0.0)), 4.10, 0.005);
        near(mos(rating(g711, 0.05, 150.0)), 3.77, 0.01);
        near(mos(rating(g729, 0.03, 200.0)), 3.28, 0.01);
        near(mos(rating(g729, 1.0, 2000.0)), 1.0, 1e-9);
    }
}
