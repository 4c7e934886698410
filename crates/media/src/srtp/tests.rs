//! Against the vectors of the RFCs, and packets that libsrtp 2 has made.

use super::*;

fn octets(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
}

/// A line of SDP with this key and salt.
fn crypto(suite: &str, key_and_salt: &[u8], more: &str) -> Crypto {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in key_and_salt.chunks(3) {
        let bits = three.iter().fold(0, |bits, octet| bits << 8 | u32::from(*octet)) << (8 * (3 - three.len()));
        (0..=three.len()).for_each(|at| text.push(char::from(digits[(bits >> (18 - 6 * at) & 63) as usize])));
    }
    Crypto::parse(format!("1 {suite} inline:{text}{more}").as_bytes()).expect("a line")
}

/// The key that libsrtp was given: 1, 2, 3, …
fn counting(suite: &str, more: &str) -> Key {
    let length = if suite.starts_with("AEAD_AES_128") {
        28
    } else if suite.starts_with("AEAD") {
        44
    } else {
        30
    };
    Key::new(&crypto(suite, &(1..=length).collect::<Vec<u8>>(), more))
}

#[test]
fn session_keys_of_rfc_3711_and_rfc_6188() {
    let short = octets("E1F97A0D3E018BE0D64FA32C06DE41390EC675AD498AFEEBB6960B3AABE6");
    let key = Key::new(&crypto("AES_CM_128_HMAC_SHA1_80", &short, ""));
    assert_eq!(key.rtp.key[..20], octets("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"));
    let long = octets("f0f04914b513f2763a1b1fa130f10e2998f6f6e43e4309d1e622a0e332b9f1b63b04803de51ee7c96423ab5b78d2");
    let key = Key::new(&crypto("AES_256_CM_HMAC_SHA1_80", &long, ""));
    assert_eq!(key.rtp.key[..20], octets("fd9c32d39ed5fbb5a9dc96b30818454d1313dc05"));
}

/// Suite; then packets 65535 (counter 0), 0 (counter 1), one with a header extension, and the first of RTCP.
const LIBSRTP: [(&str, [&str; 4]); 4] = [
    (
        "AES_CM_128_HMAC_SHA1_80",
        [
            "800fffffdecafbadcafebabe440ba3c4396faf87c2d14b2b8791e5540ca7eeb65a2e616779cd",
            "800f0000decafbadcafebabe703f36daaae835e837328c1129c3069fd46579345e1e1ff57137",
            "900f0001decafbadcafebabebede000110aa0000024b339758323ca5be1f35fdbfe70209656d76c4bc15e9f55af0",
            "81c8000bcafebabe03f0a2f39ed616569a32b8ad28dad37a78979d5274312d834d261239ec7ad7048ba6e3fd8418905d8000\
             0001b526af5d0fa7eeac0256",
        ],
    ),
    (
        "AES_CM_128_HMAC_SHA1_32",
        [
            "800fffffdecafbadcafebabe440ba3c4396faf87c2d14b2b8791e5540ca7eeb6",
            "800f0000decafbadcafebabe703f36daaae835e837328c1129c3069fd4657934",
            "900f0001decafbadcafebabebede000110aa0000024b339758323ca5be1f35fdbfe70209656d76c4",
            "81c8000bcafebabe03f0a2f39ed616569a32b8ad28dad37a78979d5274312d834d261239ec7ad7048ba6e3fd8418905d8000\
             0001b526af5d0fa7eeac0256",
        ],
    ),
    (
        "AEAD_AES_128_GCM",
        [
            "800fffffdecafbadcafebabeb8f7683dfae20325ccbf0c6d8d0ed3191accaea203513f22679b91d950a594f7",
            "800f0000decafbadcafebabe4d533f2a442d23c53838848f85d86d6f2462ee7df00ca9b603c8156885c4b5a4",
            "900f0001decafbadcafebabebede000110aa0000e4aaac850f4f4ba83c0f18e97cc85a68b384db950586ac1c748be84d2694\
             801f",
            "81c8000bcafebabedb7c63b4733b245f1bb30fc7ea6b4588b87120b2ed1edb199659d46c02dd3c8b1e166df8dca603ef5d6b\
             3024f5c5a6b360f60ac0416b276180000001",
        ],
    ),
    (
        "AEAD_AES_256_GCM",
        [
            "800fffffdecafbadcafebabedc6cdec71a6bde22ed6473ef5ad8cbb4d6edfeb92b0211a9ee39322a1d44874c",
            "800f0000decafbadcafebabe2a64a8e3165bd8696806d5e7cd6c456f0c3fcf87ddca163e74498dd4c6bb1061",
            "900f0001decafbadcafebabebede000110aa0000cf40fa2a724ed1a09426b8656754a0e55ab14bd43a2619d96429ff2f12e3\
             8548",
            "81c8000bcafebabe85f8e10bb21bfa3a183c41f13947f13ca60dfae046eec5d182a124cc948a400ca93d0843af60b45b8016\
             433dabbd90b9a19ea48547313b3f80000001",
        ],
    ),
];

#[test]
fn packets_of_another_implementation_are_authentic_and_no_octet_of_them_may_change() {
    for (suite, packets) in LIBSRTP {
        let key = counting(suite, "");
        for (at, (packet, roc)) in packets.iter().zip([0, 1, 1, 0]).enumerate() {
            let packet = octets(packet);
            let good = |key: &Key, packet: &[u8], roc| {
                if at == 3 { key.vouches_rtcp(packet).is_some() } else { key.vouches(packet, roc) }
            };
            assert!(good(&key, &packet, roc), "{suite} {at}");
            assert!(at == 3 || !good(&key, &packet, roc ^ 1), "{suite} {at}: another roll-over counter");
            for octet in 0..packet.len() {
                let mut forged = packet.clone();
                forged[octet] ^= 1;
                assert!(!good(&key, &forged, roc), "{suite} {at}: octet {octet}");
                assert!(!good(&key, &packet[..octet], roc), "{suite} {at}: cut to {octet}");
            }
        }
        assert_eq!(key.vouches_rtcp(&octets(packets[3])), Some(1));
    }
}

#[test]
fn an_identifier_is_looked_for_where_it_was_announced_and_may_be_missing() {
    for (suite, packets) in LIBSRTP {
        let (plain, announced) = (counting(suite, ""), counting(suite, "|2^20|7:4"));
        let tag = plain.tag();
        let with = |packet: &[u8], before: usize| {
            let (head, tail) = packet.split_at(packet.len() - before);
            [head, &[0, 0, 0, 7], tail].concat()
        };
        let aead = plain.suite.is_aead();
        let (rtp, rtcp) = (octets(packets[0]), octets(packets[3]));
        let (marked, marked_rtcp) = (with(&rtp, if aead { 0 } else { tag }), with(&rtcp, if aead { 0 } else { 10 }));
        assert!(announced.vouches(&rtp, 0) && announced.vouches(&marked, 0), "{suite}");
        assert!(announced.vouches_rtcp(&rtcp).is_some() && announced.vouches_rtcp(&marked_rtcp).is_some(), "{suite}");
        assert!(!plain.vouches(&marked, 0) && plain.vouches_rtcp(&marked_rtcp).is_none(), "{suite}");
    }
}

#[test]
fn what_tests_seal_is_authentic() {
    let key = counting("AES_CM_128_HMAC_SHA1_32", "");
    let packet = octets("800fffffdecafbadcafebabe440ba3c4396faf87c2d14b2b8791e554");
    assert_eq!(key.seal(&packet, 0), Some(octets(LIBSRTP[1].1[0])));
    let report = key.seal_rtcp(&octets("81c80001cafebabe"), 77).expect("sealed");
    assert_eq!(key.vouches_rtcp(&report), Some(77));
    assert_eq!(counting("AEAD_AES_128_GCM", "").seal(&packet, 0), None);
}

#[test]
fn no_packet_is_too_short_or_too_long_to_ask() {
    for (suite, _) in LIBSRTP {
        let key = counting(suite, "|2^20|1:128");
        for length in [0, 1, 7, 8, 11, 12, 16, 28, 60, 2047, 2048, 2049, 4096, 70_000] {
            for first in [0x80, 0x9f, 0xff] {
                let packet = vec![first; length];
                assert!(!key.vouches(&packet, 0) && key.vouches_rtcp(&packet).is_none());
            }
        }
    }
}

#[test]
fn a_key_is_not_for_logs() {
    assert_eq!(format!("{:?}", counting("AEAD_AES_128_GCM", "")), "Key(Gcm128, …)");
}
