/*
 * ngx_auto_headers.h: which system headers there are, the other half of what
 * nginx's configure finds; see ngx_auto_config.h beside it, which says what
 * both are for and for whom they are not.
 */
#define NGX_HAVE_UNISTD_H 1
#define NGX_HAVE_INTTYPES_H 1
#define NGX_HAVE_LIMITS_H 1
#define NGX_HAVE_SYS_PARAM_H 1
#define NGX_HAVE_SYS_MOUNT_H 1
#define NGX_HAVE_SYS_STATVFS_H 1
#define NGX_HAVE_SYS_PRCTL_H 1
#define NGX_HAVE_SYS_VFS_H 1
#ifndef NGX_LINUX
#define NGX_LINUX 1
#endif
