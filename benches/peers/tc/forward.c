// The minimal forwarder in the kernel: one look-up by the port that a packet came to, addresses, ports and checksums
// written over, and back out of the same interface. It judges nothing but the sender's address and port.
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

// All in network byte order.
struct leg {
    __be32 from_address;
    __be32 to_address;
    __be16 from_port;
    __be16 to_port;
    __be16 out_port;
    __be16 unused;
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 8192);
    __type(key, __u32);
    __type(value, struct leg);
} legs SEC(".maps");

// RFC 1624, equation 3: the checksum after these words took the place of those.
static __always_inline __u16 mended(__u16 checksum, __u64 difference)
{
    __u64 sum = (__u16)~checksum + difference;
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return ~sum;
}

static __always_inline __u64 words(__be32 old, __be32 new)
{
    return (__u64)(__u16)~old + (__u16)~(old >> 16) + (__u16)new + (new >> 16);
}

SEC("tc")
int forward(struct __sk_buff *skb)
{
    void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
    struct ethhdr *eth = data;
    struct iphdr *ip = data + sizeof(*eth);
    struct udphdr *udp = (void *)(ip + 1);

    if ((void *)(udp + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP) || ip->protocol != IPPROTO_UDP || ip->ihl != 5)
        return TC_ACT_OK;
    __u32 key = udp->dest;
    struct leg *leg = bpf_map_lookup_elem(&legs, &key);
    if (!leg || leg->from_address != ip->saddr || leg->from_port != udp->source)
        return TC_ACT_OK;

    __u64 addresses = words(ip->saddr, ip->daddr) + words(ip->daddr, leg->to_address);
    __u64 ports = (__u64)(__u16)~udp->source + leg->out_port + (__u16)~udp->dest + leg->to_port;
    ip->check = mended(ip->check, addresses);
    udp->check = mended(udp->check, addresses + ports);
    ip->saddr = ip->daddr;
    ip->daddr = leg->to_address;
    udp->source = leg->out_port;
    udp->dest = leg->to_port;

    __u8 mac[ETH_ALEN];
    __builtin_memcpy(mac, eth->h_source, ETH_ALEN);
    __builtin_memcpy(eth->h_source, eth->h_dest, ETH_ALEN);
    __builtin_memcpy(eth->h_dest, mac, ETH_ALEN);
    return bpf_redirect(skb->ifindex, 0);
}

char _license[] SEC("license") = "Dual MIT/GPL";
