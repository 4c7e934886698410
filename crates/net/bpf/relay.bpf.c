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

// So many addresses of each family can have rules.
#define PLACES 8
// Ports of one address come in pairs, of which one is for RTP.
#define PAIR_BITS 15
// Numbers of rules in a word.
#define NUMBER_BITS 16
#define LINE 64

struct address {
	__u64 half[2];
};

// All that user space says, in the first lines of a rule: written while it is not
// in force, and only read here. Addresses and ports are in network order.
struct terms {
	// Whose packets, beside the addresses.
	__be16 source_port;
	__be16 local_port;
	__u32 epoch;
	// How many orders for its stream its worker had obeyed.
	__u32 orders;
	__u32 ssrc;
	// Rewriting.
	__be16 from_port;
	__be16 to_port;
	__u16 address_diff;
	__u16 port_diff;
	__u16 most;
	__u8 tos;
	__u8 ttl;
	// The way out.
	__u32 ifindex;
	__u32 hop_family;
	__u8 payload_type;
	__u8 unused[3];
	// Nanoseconds in 256 ticks.
	__s64 tick;
};

// Where the stream stands, in the last line.
struct state {
	// Whether there is a rule, whose it is, and how far the stream went: its serial
	// number, 0 for none, above the extended sequence number of the last packet.
	__u64 turn;
	// Of all packets that were ever forwarded by rules of this number.
	__u64 bytes;
	__u64 at;
	__u64 jitter;
	__u64 timestamp;
	// A term, too; here it has room for either family.
	struct address hop;
} __attribute__((aligned(LINE)));

struct rule4 {
	struct terms terms;
	__be32 local;
	__be32 source;
	__be32 from;
	__be32 to;
	struct state state;
};

struct rule6 {
	struct terms terms;
	struct address local;
	struct address source;
	struct address from;
	struct address to;
	struct state state;
};

_Static_assert(sizeof(struct rule4) == 2 * LINE, "two lines");
_Static_assert(sizeof(struct rule6) == 3 * LINE, "three lines");

// A hint which rule is for a pair of ports of one of our addresses, four to a
// word; 0 for none. Whether it is, the rule says. User space writes all of these
// as memory.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} numbers4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} numbers6 SEC(".maps");

// Two rules for each stream, one after the other from number 1, so that streams
// that are few lie close together.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rule4);
} rules4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rule6);
} rules6 SEC(".maps");

// Our addresses, in the order of their ports.
struct ours {
	__be32 four[PLACES];
	struct address six[PLACES];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ours);
} ours SEC(".maps");

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

static __always_inline int same(const struct address *a, const struct in6_addr *b)
{
	struct address other;

	__builtin_memcpy(&other, b, sizeof(other));
	return !((a->half[0] ^ other.half[0]) | (a->half[1] ^ other.half[1]));
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
static __always_inline void arrived(struct state *state, __s64 tick, __u64 now, __u32 timestamp)
{
	__s64 ticks = (__s32)(timestamp - (__u32)state->timestamp);
	__s64 passed = (__s64)(now - state->at) - ((ticks * tick) >> 8);
	__u64 difference = passed < 0 ? -passed : passed;

	state->at = now;
	state->timestamp = timestamp;
	if (difference < LEAP)
		state->jitter = state->jitter + difference - ((state->jitter + 8) >> 4);
}

// Every offset is a constant: without CAP_PERFMON no other may be added to a pointer.
static __always_inline int family(struct __sk_buff *skb, const __u32 link, const int six)
{
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
	} else {
		if ((void *)(ip + 1) + sizeof(struct udphdr) + RTP_HEADER > end)
			return UP;
		if (ip->version != 4 || ip->ihl != 5 || ip->protocol != IPPROTO_UDP)
			return UP;
		if (ip->frag_off & bpf_htons(IP_FRAGMENT))
			return UP;
		total = bpf_ntohs(ip->tot_len);
		udp = (void *)(ip + 1);
	}

	// RTP by its first octet (RFC 7983 section 7) and not RTCP (RFC 5761 section 4).
	struct rtp *rtp = (void *)(udp + 1);

	if (rtp->first >> 6 != 2 || (rtp->type >= 192 && rtp->type <= 223))
		return UP;
	// Neither cut off nor padded by the link, and no octet beside the datagram.
	if (total != skb->len - link || total != network + bpf_ntohs(udp->len))
		return UP;

	__u32 zero = 0, port = PLACES;
	struct ours *own = bpf_map_lookup_elem(&ours, &zero);

	if (!own)
		return UP;
#pragma unroll
	for (__u32 i = 0; i < PLACES; i++)
		if (six ? same(&own->six[i], &ip6->daddr) : own->four[i] == ip->daddr)
			port = i;
	port = port << PAIR_BITS | bpf_ntohs(udp->dest) >> 1;

	__u32 four = port >> 2;
	__u64 *numbers = six ? bpf_map_lookup_elem(&numbers6, &four) : bpf_map_lookup_elem(&numbers4, &four);

	if (!numbers)
		return UP;

	__u32 number = (__u16)(*numbers >> (port & 3) * NUMBER_BITS), stream = (number - 1) >> 1;

	if (!number)
		return UP;

	struct rule4 *rule4 = six ? 0 : bpf_map_lookup_elem(&rules4, &number);
	struct rule6 *rule6 = six ? bpf_map_lookup_elem(&rules6, &number) : 0;

	if (six ? !rule6 : !rule4)
		return UP;

	const struct terms *terms = six ? &rule6->terms : &rule4->terms;
	struct state *state = six ? &rule6->state : &rule4->state;
	const __u64 turn = *(volatile __u64 *)&state->turn;
	const __u32 next = (__u32)turn + 1;

	// What is read from here on is believed if it is this rule's turn still when all is read.
	barrier();
	__u32 *current = bpf_map_lookup_elem(&epoch, &zero);
	__u64 *given = bpf_map_lookup_elem(&orders, &stream);

	if (!(turn >> 32) || bpf_ntohs(rtp->sequence) != (__u16)next)
		return UP;
	if (!current || terms->epoch != *current || !given || terms->orders != (__u32)*given)
		return UP;
	if (terms->source_port != udp->source || terms->local_port != udp->dest ||
	    (six ? !same(&rule6->local, &ip6->daddr) || !same(&rule6->source, &ip6->saddr)
		 : rule4->local != ip->daddr || rule4->source != ip->saddr))
		return UP;
	if (total > terms->most)
		return UP;
	if (terms->ssrc != bpf_ntohl(rtp->ssrc) || terms->payload_type != (rtp->type & PAYLOAD_TYPE))
		return UP;

	// All of 64 bits: without CAP_PERFMON nothing shorter may be where a pointer was on the stack.
	__u64 from_port = terms->from_port, to_port = terms->to_port;
	__u64 address_diff = terms->address_diff, port_diff = terms->port_diff;
	__u64 ifindex = terms->ifindex, tos = terms->tos, ttl = terms->ttl;
	__s64 tick = terms->tick;
	struct address from = {}, to = {};

	if (six) {
		from = rule6->from;
		to = rule6->to;
	} else {
		from.half[0] = rule4->from;
		to.half[0] = rule4->to;
	}
	hop.nh_family = terms->hop_family;
	__builtin_memcpy(&hop.ipv6_nh, &state->hop, 16);

	// One packet for one turn. Who takes the rule, or puts another, ends this one's.
	if (__sync_val_compare_and_swap(&state->turn, turn, (turn >> 32 << 32) | next) != turn)
		return UP;
	state->bytes += total - network - sizeof(struct udphdr);
	arrived(state, tick, bpf_ktime_get_boot_ns(), bpf_ntohl(rtp->timestamp));

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
		ip->saddr = from.half[0];
		ip->daddr = to.half[0];
		ip->check = ~fold(sum);
	}
	udp->source = from_port;
	udp->dest = to_port;

	const __u32 check = link + network + __builtin_offsetof(struct udphdr, check);

	if (bpf_l4_csum_replace(skb, check, 0, address_diff, BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0) ||
	    bpf_l4_csum_replace(skb, check, 0, port_diff, BPF_F_MARK_MANGLED_0))
		return TC_ACT_SHOT;
	// Into this machine only a route leads, not a neighbour.
	if (!hop.nh_family)
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
