// The relay's fast path in the kernel: a cache of decisions, never a judge.
//
// A packet is forwarded here when, and only when, user space has put a rule for
// exactly its source and its destination, and it continues the RTP stream that
// the rule describes: same SSRC, same payload type, the next sequence number.
// Everything else goes up untouched, in the order of arrival: RTCP, STUN, DTLS,
// strangers, the packet after a lost one, fragments, options, what is too long
// for the way out, and whatever an order may concern that is not obeyed yet.
//
// Rebuild with `make bpf` (clang 14, libbpf headers); the object is committed.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

// On to the next program, then up the stack (TCX_NEXT).
#define UP TC_ACT_UNSPEC
#define PAYLOAD_TYPE 0x7f
#define IP_FRAGMENT 0x3fff
// A difference of times beyond this is a leap, not jitter; as in quality.rs.
#define LEAP (1ULL << 30)
#define RTP_HEADER 12

struct address {
	__u32 word[4];
};

// IPv4 addresses are mapped (RFC 4291 section 2.5.5.2), all in network order.
struct key {
	struct address local;
	struct address source;
	__be16 source_port;
	__be16 local_port;
};

struct rule {
	// What it is for, once more: an element may be taken for another rule under our eyes.
	struct key key;
	__u32 epoch;
	// Its stream, and how many orders for that its worker had obeyed.
	__u32 stream;
	__u32 orders;
	// Rewriting.
	struct address from;
	struct address to;
	__be16 from_port;
	__be16 to_port;
	__u32 address_diff;
	__u32 port_diff;
	__u8 tos;
	__u8 ttl;
	__u16 most;
	// The way out.
	__u32 ifindex;
	__u32 hop_family;
	struct address hop;
	// Where the stream stands.
	__u32 ssrc;
	__u32 timestamp;
	__u16 sequence;
	__u8 payload_type;
	__u8 unused[5];
	__s64 tick;
	__u64 jitter;
	__u64 at;
	__u64 packets;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct key);
	__type(value, struct rule);
} rules SEC(".maps");

// Rules of another epoch are void.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} epoch SEC(".maps");

// How many orders each stream was given, written by whoever gives them, before
// anybody can act on what they bring about: a rule that knows of fewer is void.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} orders SEC(".maps");

struct rtp {
	__u8 first;
	__u8 type;
	__be16 sequence;
	__be32 timestamp;
	__be32 ssrc;
};

static __always_inline int same(const struct key *a, const struct key *b)
{
	const __u32 *x = (const void *)a, *y = (const void *)b;
	__u32 differs = 0;

#pragma unroll
	for (int i = 0; i < (int)(sizeof(*a) / 4); i++)
		differs |= x[i] ^ y[i];
	return !differs;
}

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)sum;
}

// RFC 3550 A.8 in nanoseconds, as quality.rs does it.
static __always_inline void arrived(struct rule *rule, __u64 now, __u32 timestamp)
{
	__s64 ticks = (__s32)(timestamp - rule->timestamp);
	__s64 passed = (__s64)(now - rule->at) - ((ticks * rule->tick) >> 8);
	__u64 difference = passed < 0 ? -passed : passed;

	rule->at = now;
	rule->timestamp = timestamp;
	if (difference < LEAP)
		rule->jitter = rule->jitter + difference - ((rule->jitter + 8) >> 4);
}

// Every offset is a constant: without CAP_PERFMON no other may be added to a pointer.
static __always_inline int family(struct __sk_buff *skb, const __u32 link, const int six)
{
	struct key key = {};
	struct bpf_redir_neigh hop = {};

	if (skb->pkt_type != 0 /* PACKET_HOST */ || skb->vlan_present || skb->gso_size)
		return UP;

	const __u32 network = six ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	const __u32 headers = link + network + sizeof(struct udphdr) + RTP_HEADER;
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

	if (data + headers > end) {
		if (skb->len < headers || bpf_skb_pull_data(skb, headers))
			return UP;
		data = (void *)(long)skb->data;
		end = (void *)(long)skb->data_end;
	}

	struct iphdr *ip = data + link;
	struct ipv6hdr *ip6 = data + link;
	struct udphdr *udp;
	__u32 total;

	if (six) {
		if ((void *)(ip6 + 1) + sizeof(struct udphdr) + RTP_HEADER > end)
			return UP;
		if (ip6->version != 6 || ip6->nexthdr != IPPROTO_UDP)
			return UP;
		total = sizeof(*ip6) + bpf_ntohs(ip6->payload_len);
		udp = (void *)(ip6 + 1);
		// A zero checksum is for tunnels alone (RFC 6935).
		if (!udp->check)
			return UP;
		__builtin_memcpy(&key.local, &ip6->daddr, 16);
		__builtin_memcpy(&key.source, &ip6->saddr, 16);
	} else {
		if ((void *)(ip + 1) + sizeof(struct udphdr) + RTP_HEADER > end)
			return UP;
		if (ip->version != 4 || ip->ihl != 5 || ip->protocol != IPPROTO_UDP)
			return UP;
		if (ip->frag_off & bpf_htons(IP_FRAGMENT))
			return UP;
		total = bpf_ntohs(ip->tot_len);
		udp = (void *)(ip + 1);
		key.local.word[2] = key.source.word[2] = bpf_htonl(0xffff);
		key.local.word[3] = ip->daddr;
		key.source.word[3] = ip->saddr;
	}
	key.source_port = udp->source;
	key.local_port = udp->dest;

	// RTP by its first octet (RFC 7983 section 7) and not RTCP (RFC 5761 section 4).
	struct rtp *rtp = (void *)(udp + 1);

	if (rtp->first >> 6 != 2 || (rtp->type >= 192 && rtp->type <= 223))
		return UP;
	// Neither cut off nor padded by the link, and no octet beside the datagram.
	if (total != skb->len - link || total != network + bpf_ntohs(udp->len))
		return UP;

	struct rule *rule = bpf_map_lookup_elem(&rules, &key);

	if (!rule)
		return UP;

	__u32 zero = 0, stream = rule->stream;
	__u32 *current = bpf_map_lookup_elem(&epoch, &zero);
	__u64 *given = bpf_map_lookup_elem(&orders, &stream);
	__u16 sequence = bpf_ntohs(rtp->sequence);

	if (!current || rule->epoch != *current || !given || rule->orders != (__u32)*given)
		return UP;
	if (total > rule->most)
		return UP;
	if (rule->ssrc != bpf_ntohl(rtp->ssrc) || rule->payload_type != (rtp->type & PAYLOAD_TYPE) ||
	    sequence != (__u16)(rule->sequence + 1))
		return UP;

	struct address from = rule->from, to = rule->to;
	__be16 from_port = rule->from_port, to_port = rule->to_port;
	__u32 address_diff = rule->address_diff, port_diff = rule->port_diff;
	__u32 ifindex = rule->ifindex, hop_family = rule->hop_family;
	__u8 tos = rule->tos, ttl = rule->ttl;

	hop.nh_family = hop_family;
	__builtin_memcpy(&hop.ipv6_nh, &rule->hop, 16);
	barrier();
	if (!same(&rule->key, &key))
		return UP;

	rule->sequence = sequence;
	rule->packets++;
	rule->bytes += total - network - sizeof(struct udphdr);
	arrived(rule, bpf_ktime_get_boot_ns(), bpf_ntohl(rtp->timestamp));

	if (six) {
		__u32 first = bpf_htonl(6u << 28 | (__u32)tos << 20);

		__builtin_memcpy(ip6, &first, 4);
		ip6->hop_limit = ttl;
		__builtin_memcpy(&ip6->saddr, &from, 16);
		__builtin_memcpy(&ip6->daddr, &to, 16);
	} else {
		// RFC 1624: the sum without what was, with what is.
		__u64 sum = (__u16)~ip->check;
		__u16 *word = (void *)ip;

		sum += address_diff;
		sum += (__u16)~word[0] + (__u16)~word[4];
		ip->tos = tos;
		ip->ttl = ttl;
		sum += word[0] + word[4];
		ip->saddr = from.word[3];
		ip->daddr = to.word[3];
		ip->check = ~fold(sum);
	}
	udp->source = from_port;
	udp->dest = to_port;

	const __u32 check = link + network + __builtin_offsetof(struct udphdr, check);

	if (bpf_l4_csum_replace(skb, check, 0, address_diff, BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0) ||
	    bpf_l4_csum_replace(skb, check, 0, port_diff, BPF_F_MARK_MANGLED_0))
		return TC_ACT_SHOT;
	// Into this machine only a route leads, not a neighbour.
	if (!hop_family)
		return bpf_redirect_neigh(ifindex, 0, 0, 0);
	return bpf_redirect_neigh(ifindex, &hop, sizeof(hop), 0);
}

static __always_inline int forward(struct __sk_buff *skb, const __u32 link)
{
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return family(skb, link, 0);
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return family(skb, link, 1);
	return UP;
}

// On links with an Ethernet header.
SEC("classifier")
int relay_ethernet(struct __sk_buff *skb)
{
	return forward(skb, ETH_HLEN);
}

// On links without any, such as tunnels.
SEC("classifier")
int relay_bare(struct __sk_buff *skb)
{
	return forward(skb, 0);
}

char _license[] SEC("license") = "Dual MIT/GPL";
