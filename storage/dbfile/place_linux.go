package dbfile

import (
	"os"
	"strings"
	"syscall"
)

// networkFileSystem names the network file system that a directory is on; it
// is empty for a local one, or when nobody can tell.
func networkFileSystem(dir string) string {
	var st syscall.Statfs_t
	if syscall.Statfs(dir, &st) != nil {
		return ""
	}
	const fuse = 0x65735546
	if uint32(st.Type) != fuse {
		return networkByMagic(uint32(st.Type))
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	return networkByType(mountType(string(mounts), dir))
}

// Disk is how many bytes may still be written to a directory's disk, of how many.
func Disk(dir string) (free, size int64, known bool) {
	var st syscall.Statfs_t
	if syscall.Statfs(dir, &st) != nil {
		return 0, 0, false
	}
	return int64(st.Bavail) * st.Bsize, int64(st.Blocks) * st.Bsize, true
}

// networkByMagic knows file systems by what statfs(2) calls them.
func networkByMagic(magic uint32) string {
	return map[uint32]string{
		0x00006969: "NFS",
		0x0000517b: "SMB",
		0xff534d42: "CIFS",
		0xfe534d42: "SMB",
		0x0000564c: "NCP",
		0x5346414f: "AFS",
		0x6b414653: "AFS",
		0x73757245: "Coda",
		0x00c36400: "Ceph",
		0x0bd00bd0: "Lustre",
		0x47504653: "GPFS",
		0x01161970: "GFS2",
		0x7461636f: "OCFS2",
		0x19830326: "BeeGFS",
	}[magic]
}

// networkByType knows programs that serve a remote directory by FUSE. Others
// serve a local one, such as ntfs-3g and gocryptfs.
func networkByType(name string) string {
	program := strings.TrimPrefix(name, "fuse.")
	for _, remote := range []string{
		"sshfs", "s3fs", "rclone", "gcsfuse", "blobfuse", "blobfuse2", "goofys", "geesefs", "juicefs", "JuiceFS", "davfs", "curlftpfs",
		"glusterfs", "ceph-fuse", "ceph", "seaweedfs", "moosefs", "mfs", "lizardfs", "s3ql", "afp", "smbnetfs", "nfs", "mount-s3", "mountpoint-s3",
	} {
		if program == remote {
			return program
		}
	}
	return ""
}

// mountType finds the type of the file system that a directory is on in what
// /proc/self/mountinfo says: of the mounts above it the innermost, and of
// several at one place the latest.
func mountType(mounts, dir string) (name string) {
	longest := -1
	for line := range strings.Lines(mounts) {
		before, after, found := strings.Cut(line, " - ")
		fields, types := strings.Fields(before), strings.Fields(after)
		const at = 4
		if !found || len(fields) <= at || len(types) == 0 {
			continue
		}
		point := unescapeMount(fields[at])
		inside := point == "/" || dir == point || strings.HasPrefix(dir, point+"/")
		if inside && len(point) >= longest {
			name, longest = types[0], len(point)
		}
	}
	return name
}

// unescapeMount undoes what mountinfo does to spaces and their like.
func unescapeMount(text string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(text)
}
