# Rota as an ECS service on Fargate. The database, the cluster, the subnets and the
# secrets exist already and come in as variables.

terraform {
  required_version = ">= 1.6"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.60"
    }
  }
}

variable "image" {
  description = "The image of Rota, with its digest"
  type        = string
}

variable "cluster_arn" {
  type = string
}

variable "subnet_ids" {
  description = "Private subnets with a route to the AWS APIs, Slack and the database"
  type        = list(string)
}

variable "security_group_ids" {
  type = list(string)
}

variable "database_url_secret_arn" {
  description = "The secret that holds the connection URL of the state database"
  type        = string
}

variable "slack_webhook_secret_arn" {
  type = string
}

variable "policy_bucket" {
  description = "Where the policy file lies; Fargate has no other place to mount it from"
  type        = string
}

variable "policy_key" {
  type    = string
  default = "rota/policy.toml"
}

variable "managed_secret_arns" {
  description = "The secrets that Rota may rotate, as ARNs or patterns"
  type        = list(string)
}

variable "managed_service_arns" {
  description = "The ECS services that Rota may roll out"
  type        = list(string)
}

variable "replicas" {
  description = "Two: one works while the other takes over within a lease"
  type        = number
  default     = 2
}

data "aws_region" "current" {}

resource "aws_cloudwatch_log_group" "rota" {
  name              = "/rota"
  retention_in_days = 400
}

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }
  }
}

# Starts the task: reads the daemon's own two secrets, writes logs.
resource "aws_iam_role" "execution" {
  name               = "rota-execution"
  assume_role_policy = data.aws_iam_policy_document.assume.json
}

resource "aws_iam_role_policy_attachment" "execution" {
  role       = aws_iam_role.execution.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
}

data "aws_iam_policy_document" "execution" {
  statement {
    actions   = ["secretsmanager:GetSecretValue"]
    resources = [var.database_url_secret_arn, var.slack_webhook_secret_arn]
  }
}

resource "aws_iam_role_policy" "execution" {
  role   = aws_iam_role.execution.name
  policy = data.aws_iam_policy_document.execution.json
}

# What the daemon itself may do.
resource "aws_iam_role" "task" {
  name               = "rota"
  assume_role_policy = data.aws_iam_policy_document.assume.json
}

data "aws_iam_policy_document" "task" {
  statement {
    sid = "Secrets"
    actions = [
      "secretsmanager:CreateSecret",
      "secretsmanager:DescribeSecret",
      "secretsmanager:GetSecretValue",
      "secretsmanager:ListSecretVersionIds",
      "secretsmanager:PutSecretValue",
      "secretsmanager:TagResource",
      "secretsmanager:UpdateSecretVersionStage",
    ]
    resources = var.managed_secret_arns
  }

  statement {
    sid       = "Rollouts"
    actions   = ["ecs:DescribeServices", "ecs:UpdateService"]
    resources = var.managed_service_arns
  }

  statement {
    sid = "RolloutsAreSeen"
    actions = [
      "ecs:DescribeTaskDefinition",
      "ecs:DescribeTasks",
      "ecs:ListTasks",
      "ecs:RegisterTaskDefinition",
    ]
    resources = ["*"]
  }

  statement {
    sid       = "Policy"
    actions   = ["s3:GetObject"]
    resources = ["arn:aws:s3:::${var.policy_bucket}/${var.policy_key}"]
  }
}

resource "aws_iam_role_policy" "task" {
  role   = aws_iam_role.task.name
  policy = data.aws_iam_policy_document.task.json
}

resource "aws_ecs_task_definition" "rota" {
  family                   = "rota"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 256
  memory                   = 512
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.task.arn

  container_definitions = jsonencode([{
    name                   = "rota"
    image                  = var.image
    command                = ["serve"]
    essential              = true
    readonlyRootFilesystem = true
    user                   = "65532:65532"
    stopTimeout            = 60
    linuxParameters        = { initProcessEnabled = false }
    portMappings           = [{ containerPort = 9464, protocol = "tcp" }]
    environment = [
      { name = "ROTA_ENVIRONMENT", value = "production" },
      { name = "ROTA__POLICY__SOURCE", value = "s3://${var.policy_bucket}/${var.policy_key}" },
    ]
    secrets = [
      { name = "ROTA__DATABASE__URL", valueFrom = var.database_url_secret_arn },
      { name = "ROTA__SLACK__WEBHOOK_URL", valueFrom = var.slack_webhook_secret_arn },
    ]
    # ECS ignores the image's own health check.
    healthCheck = {
      command     = ["CMD", "/usr/local/bin/rota", "health"]
      interval    = 30
      timeout     = 5
      retries     = 3
      startPeriod = 20
    }
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.rota.name
        awslogs-region        = data.aws_region.current.name
        awslogs-stream-prefix = "rota"
      }
    }
  }])
}

resource "aws_ecs_service" "rota" {
  name                               = "rota"
  cluster                            = var.cluster_arn
  task_definition                    = aws_ecs_task_definition.rota.arn
  desired_count                      = var.replicas
  launch_type                        = "FARGATE"
  deployment_minimum_healthy_percent = 50
  deployment_maximum_percent         = 200

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = var.subnet_ids
    security_groups  = var.security_group_ids
    assign_public_ip = false
  }
}

output "task_role_arn" {
  value = aws_iam_role.task.arn
}
